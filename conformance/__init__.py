"""A conformance suite for layers over AOTInductor; `SPEC.md` is its specification."""

from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as _version

try:
    __version__ = _version("aoti-conformance")
except PackageNotFoundError:  # a checkout that is not installed
    __version__ = "0+unknown"
