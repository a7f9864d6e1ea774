"""Give clause tests their fixtures."""

from conformance.fixtures import adapter_name, cache, impl, on_the_cpu, seed

__all__ = ["adapter_name", "cache", "impl", "on_the_cpu", "seed"]
