"""What a package says of itself, and whether that is true of what is in it.

The manifest vouches for every other member by size and sha256, and for itself by a
digest of its own. `aoti-package-2.schema.json` has its fields.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, NoReturn

from aoti_ref._errors import BrokenPackage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from aoti_ref._archive import Check


FORMAT = "aoti_ref/2"
NAME = "extra/aoti_ref/manifest.json"
_DIGEST = "digest"
_MOST_BYTES = 16 << 20  # a thousand times what a large model has
_TORCHS_OWN = {
    "archive_format": b"pt2",
    "archive_version": b"0",
    "byteorder": b"little",
}

# What each field of a manifest is, for those that a reader relies on.
_KINDS: Mapping[str, tuple[type, ...]] = {
    "module": (str,),
    "device": (str,),
    "contract": (dict,),
    "constants": (list,),
    "ties": (list,),
    "values": (dict,),
    "places": (dict,),
    "members": (dict,),
    "built_with": (dict,),
    "needs": (dict,),
    "options": (dict,),
    "ops": (list,),
    "attention": (list,),
    "kernels": (list,),
    "source": (dict, type(None)),
    "quantisation": (str, type(None)),
    "group": (dict, type(None)),
}
_MEMBER: Mapping[str, tuple[type, ...]] = {"sha256": (str,), "size": (int,)}
_NEEDS: Mapping[str, tuple[type, ...]] = {
    "torch": (str,),
    "platform": (str,),
    "machine": (str,),
    "cpu": (list,),
    "libraries": (dict,),
    "cuda": (str, type(None)),
    "driver": (str, type(None)),
    "compute_capability": (str, type(None)),
}


def seal(
    fields: Mapping[str, Any], members: Mapping[str, bytes], form: str = FORMAT
) -> bytes:
    """Write a manifest that vouches for `members`, and for itself."""
    listed = {
        name: {"sha256": sha256(data), "size": len(data)}
        for name, data in sorted(members.items())
    }
    manifest = {"format": form, **fields, "members": listed}
    manifest[_DIGEST] = _digest(manifest)
    return json.dumps(manifest, indent=1).encode()


def unsealed(data: bytes, origin: str, form: str = FORMAT) -> dict[str, Any]:
    """Read a manifest that `seal` wrote, and hold it to its own digest.

    Raises:
        BrokenPackage: It is of another format, or was changed.
    """
    manifest: Any
    try:
        manifest = json.loads(data)
    except (ValueError, RecursionError) as error:
        _refuse(origin, f"its manifest is no JSON ({error})")
    if not isinstance(manifest, dict):
        _refuse(origin, "its manifest is no JSON object")
    found = manifest.get("format")
    if found != form:
        reason = f"its format is {found!r}, and this reads {form!r}"
        _refuse(origin, f"{reason}; compile it again, or exchange aoti_ref")
    try:
        right = manifest.get(_DIGEST) == _digest(manifest)
    except (TypeError, ValueError, RecursionError) as error:
        _refuse(origin, f"its manifest is not as {form} has it ({error})")
    if not right:
        _refuse(origin, "its manifest was changed (its digest differs)")
    listed = manifest.get("members")
    if not isinstance(listed, dict):
        _refuse(origin, "its manifest has no members")
    for name, said in listed.items():
        fields = said if isinstance(said, dict) else {}
        _check_kinds(fields, _MEMBER, f"members.{name}.", origin)
    return manifest


def sizes_first(name: str, origin: str, form: str = FORMAT) -> Check:
    """Make what holds an archive's sizes to its manifest, before it is unpacked.

    Args:
        name: The manifest's, below the archive's root folder.
        origin: Where the archive came from.
        form: The format of the manifest.
    """

    def check(sizes: Mapping[str, int], read: Callable[[str], bytes]) -> None:
        full = next((each for each in sizes if _below(each) == name), None)
        if full is None:
            _refuse(origin, f"it has no {name}, so aoti_ref did not make it")
        if sizes[full] > _MOST_BYTES:
            _refuse(origin, f"its manifest has {sizes[full]} bytes")
        listed = unsealed(read(full), origin, form)["members"]
        for each, size in sizes.items():
            member = _below(each)
            if member == name:
                continue
            if member not in listed:
                _refuse(origin, f"member {member} is not in its manifest")
            said = listed[member]["size"]
            if said != size:
                wrong = f"should have {said} bytes, and has {size}"
                _refuse(origin, f"member {member} {wrong}")

    return check


def _below(name: str) -> str:
    return name.partition("/")[2]


def hold(
    manifest: Mapping[str, Any], members: Mapping[str, bytes], origin: str
) -> None:
    """Hold members to what a manifest says of them.

    Raises:
        BrokenPackage: One is missing, was changed, or is in no manifest.
    """
    listed = manifest["members"]
    for name in members:
        if name not in listed:
            _refuse(origin, f"member {name} is not in its manifest")
    for name, said in listed.items():
        if name not in members:
            _refuse(origin, f"member {name} is missing")
        data = members[name]
        found = sha256(data)
        if found != said["sha256"]:
            sums = f"sha256 {said['sha256'][:16]}…, and has {found[:16]}…"
            _refuse(origin, f"member {name} was changed: it should have {sums}")
        if _is_pickle(data):
            _refuse(origin, f"member {name} is a pickle, which nothing here reads")


def read(members: Mapping[str, bytes], origin: str) -> dict[str, Any]:
    """Read the manifest of a graph's package, and hold the members to it.

    Args:
        members: By name below the archive's root.
        origin: Where they came from.

    Raises:
        BrokenPackage: With the first thing that is not right.
    """
    manifest = unsealed(members[NAME], origin)
    _check_kinds(manifest, _KINDS, "", origin)
    _check_kinds(manifest["needs"], _NEEDS, "needs.", origin)
    hold(manifest, {n: d for n, d in members.items() if n != NAME}, origin)
    for name, wanted in _TORCHS_OWN.items():
        found = members.get(name, b"")
        if found != wanted:
            _refuse(origin, f"{name} is {found!r}, wanted {wanted!r}")
    return manifest


def sha256(data: bytes) -> str:
    """Digest `data`, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def _digest(manifest: Mapping[str, Any]) -> str:
    fields = {name: value for name, value in manifest.items() if name != _DIGEST}
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"))
    return sha256(text.encode())


def _check_kinds(
    fields: Mapping[str, Any],
    kinds: Mapping[str, tuple[type, ...]],
    prefix: str,
    origin: str,
) -> None:
    for name, allowed in kinds.items():
        if name not in fields:
            _refuse(origin, f"its manifest has no {prefix}{name}")
        if not isinstance(fields[name], allowed):
            wanted = " or ".join(kind.__name__ for kind in allowed)
            found = type(fields[name]).__name__
            _refuse(
                origin,
                f"{prefix}{name} in its manifest is a {found}, wanted {wanted}",
            )


def _is_pickle(data: bytes) -> bool:
    """Whether this is a pickle of protocol 2 or later, or torch's archive of one."""
    if data[:4] == b"PK\3\4":
        return b"data.pkl" in data[:200]
    return data[:1] == b"\x80" and data[1:2] in (b"\2", b"\3", b"\4", b"\5")


def _refuse(origin: str, reason: str) -> NoReturn:
    raise BrokenPackage(origin, reason)
