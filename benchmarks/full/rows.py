"""Every row by its name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.full.ways import (
    Attending,
    Eager,
    Jit,
    Quantised,
    Reference,
    Resolutions,
    Spaces,
)

if TYPE_CHECKING:
    from benchmarks.full.ways import Compiling, Way

_DESCENT = {"coordinate_descent_tuning": True}
_TUNED = {"max_autotune": True, **_DESCENT}
_UNSPLIT = {**_DESCENT, "split_reductions": False}

# In the order of the table.
COMPILING: dict[str, Compiling] = {
    "torch_whole": Jit(regional=False),
    "torch_regional": Jit(regional=True),
    "spaces_whole": Spaces(regional=False),
    "spaces_regional": Spaces(regional=True),
    "aoti_ref_whole": Reference(regional=False),
    "aoti_ref_whole_cudnn": Attending("cudnn"),
    "aoti_ref_whole_flash": Attending("flash"),
    "aoti_ref_whole_efficient": Attending("efficient"),
    "aoti_ref_whole_math": Attending("math"),
    "aoti_ref_regional": Reference(regional=True),
    "aoti_ref_resolutions": Resolutions(regional=True),
    "fp8_row_regional": Quantised("per_row", regional=True),
    "fp8_tensor_regional": Quantised("per_tensor", regional=True),
    "fp8_row_whole": Quantised("per_row", regional=False),
    "aoti_ref_whole_qkv": Reference(regional=False, fused=True),
    "aoti_ref_whole_descent": Reference(regional=False, options=_DESCENT),
    "aoti_ref_whole_tuned": Reference(regional=False, options=_TUNED),
    "aoti_ref_whole_replayed": Reference(
        regional=False, options=_DESCENT, replayed=True
    ),
    "aoti_ref_whole_epilogues": Reference(
        regional=False, options=_UNSPLIT, epilogues=True
    ),
    "aoti_ref_whole_epilogues_replayed": Reference(
        regional=False, options=_UNSPLIT, epilogues=True, replayed=True
    ),
    "fp8_row_regional_descent": Quantised("per_row", regional=True, options=_DESCENT),
    "fp8_row_regional_unsplit": Quantised("per_row", regional=True, options=_UNSPLIT),
    "fp8_row_regional_replayed": Quantised(
        "per_row", regional=True, options=_UNSPLIT, replayed=True
    ),
}
WAYS: dict[str, Way] = {"eager": Eager(), **COMPILING}
