"""Give clause tests their fixtures."""

from conformance.fixtures import (
    adapter_name,
    cache,
    gpu_alone,
    impl,
    on_a_gpu,
    on_fp8,
    on_the_cpu,
    seed,
    two_gpus,
)
from conformance.imports import keep_cuda_out
from conformance.isolated import prepare_environment

prepare_environment()  # before torch is imported, which reads it once
keep_cuda_out()  # before what is imported here would start it
from conformance.clauses._fixtures import hub, package, temporary  # noqa: E402

__all__ = [
    "adapter_name",
    "cache",
    "gpu_alone",
    "hub",
    "impl",
    "on_a_gpu",
    "on_fp8",
    "on_the_cpu",
    "package",
    "seed",
    "temporary",
    "two_gpus",
]
