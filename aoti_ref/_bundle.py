"""Several packages in one archive, and a manifest that vouches for every one of them.

Each is whole in itself, with a manifest of its own. The archive is held to its own
manifest, sizes before anything is unpacked, before the packages in it are looked at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from aoti_ref import _archive, _manifest
from aoti_ref._errors import BrokenPackage

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_MANIFEST = "manifest.json"


class Form(NamedTuple):
    """A kind of bundle.

    Args:
        root: The folder in the archive that holds all members.
        name: The format that the manifest says.
    """

    root: str
    name: str


def write(form: Form, fields: Mapping[str, Any], packages: Sequence[bytes]) -> bytes:
    """Make an archive of packages, with what `fields` say of them."""
    members = {_member(index): data for index, data in enumerate(packages)}
    sealed = {_MANIFEST: _manifest.seal(fields, members, form.name), **members}
    named = {f"{form.root}/{name}": data for name, data in sealed.items()}
    return _archive.write(named, compress=False)  # the packages are


def holds(data: bytes, origin: str, form: Form) -> bool:
    """Whether an archive says that it is a bundle of this form.

    Raises:
        BrokenPackage: It is no archive.
    """
    return f"{form.root}/{_MANIFEST}" in _archive.names(data, origin)


def read(data: bytes, origin: str, form: Form) -> tuple[dict[str, Any], list[bytes]]:
    """Read what `write` wrote.

    Returns:
        The manifest, and the packages, which are as it says.

    Raises:
        BrokenPackage: It is damaged, or of another format.
    """
    check = _manifest.sizes_first(_MANIFEST, origin, form.name)
    members = _archive.read(data, origin, check=check)
    below = f"{form.root}/"
    for name in members:
        if not name.startswith(below):
            raise BrokenPackage(origin, f"member {name} is not in its folder {below}")
    inside = {name.removeprefix(below): data for name, data in members.items()}
    manifest = _manifest.unsealed(inside.pop(_MANIFEST), origin, form.name)
    _manifest.hold(manifest, inside, origin)
    wanted = [_member(index) for index in range(len(inside))]
    for name in wanted:
        if name not in inside:
            raise BrokenPackage(origin, f"member {name} is missing")
    return manifest, [inside[name] for name in wanted]


def strange(origin: str, form: Form, error: Exception) -> BrokenPackage:
    """Say that a manifest which vouches for all members is wrong in itself."""
    detail = f"{type(error).__name__}: {error}"
    return BrokenPackage(
        origin, f"its manifest is not as {form.name} has it ({detail})"
    )


def _member(index: int) -> str:
    return f"graphs/{index}.pt2"
