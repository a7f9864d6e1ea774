"""Give clause tests their fixtures."""

from conformance.fixtures import (
    adapter_name,
    cache,
    impl,
    on_a_gpu,
    on_fp8,
    on_the_cpu,
    seed,
    two_gpus,
)
from conformance.imports import keep_cuda_out

__all__ = [
    "adapter_name",
    "cache",
    "impl",
    "on_a_gpu",
    "on_fp8",
    "on_the_cpu",
    "seed",
    "two_gpus",
]

keep_cuda_out()  # before a clause imports what would start it
