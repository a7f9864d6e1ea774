"""Give clause tests their fixtures."""

from conformance.fixtures import cache, impl, seed

__all__ = ["cache", "impl", "seed"]
