"""What can happen to the file of a package: to its bytes, and to its members."""

from __future__ import annotations

import json
import zipfile
from typing import TYPE_CHECKING, Any

from conformance import archives
from conformance.archives import Entry

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Mapping

    Mutation = Callable[[bytes, random.Random], bytes]
    Change = Callable[[list[Entry], random.Random], list[Entry]]

RESEALED = "facts edited and resealed"  # by the adapter, where it can
_MOST_BITS = 8
_MOST_BYTES = 4096
_NAMES = ("data/weights/weight_0", "extra/notes.txt", "data/aotinductor/model/a.so")


def _bits(data: bytes, draw: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(draw.randint(1, _MOST_BITS)):
        changed[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def _directory(data: bytes, draw: random.Random) -> bytes:
    """Change bits where the archive lists its members."""
    start = data.rindex(b"PK\5\6")
    start = data.find(b"PK\1\2", 0, start)
    return data[:start] + _bits(data[start:], draw)


def _overwritten(data: bytes, draw: random.Random) -> bytes:
    at = draw.randrange(len(data))
    run = draw.randbytes(draw.randint(1, _MOST_BYTES))
    return (data[:at] + run + data[at + len(run) :])[: len(data)]


def _truncated(data: bytes, draw: random.Random) -> bytes:
    return data[: draw.randrange(len(data))]


def _beheaded(data: bytes, draw: random.Random) -> bytes:
    return data[draw.randint(1, _MOST_BYTES) :]


def _grown(data: bytes, draw: random.Random) -> bytes:
    return data + draw.randbytes(draw.randint(1, _MOST_BYTES))


def _prefixed(data: bytes, draw: random.Random) -> bytes:
    return draw.randbytes(draw.randint(1, _MOST_BYTES)) + data


def _member_bits(members: list[Entry], draw: random.Random) -> list[Entry]:
    at = draw.choice([i for i, m in enumerate(members) if m.data])
    return _with(members, at, data=_bits(members[at].data, draw))


def _library_bits(members: list[Entry], draw: random.Random) -> list[Entry]:
    at = next(i for i, m in enumerate(members) if m.data[:4] == b"\x7fELF")
    return _with(members, at, data=_bits(members[at].data, draw))


def _member_cut(members: list[Entry], draw: random.Random) -> list[Entry]:
    at = draw.choice([i for i, m in enumerate(members) if m.data])
    return _with(members, at, data=_truncated(members[at].data, draw))


def _swapped(members: list[Entry], draw: random.Random) -> list[Entry]:
    one, other = draw.sample(range(len(members)), 2)
    first = _with(members, one, data=members[other].data)
    return _with(first, other, data=members[one].data)


def _removed(members: list[Entry], draw: random.Random) -> list[Entry]:
    lost = draw.choice(members)
    return [member for member in members if member is not lost]


def _renamed(members: list[Entry], draw: random.Random) -> list[Entry]:
    at = draw.randrange(len(members))
    folder, slash, file = members[at].name.rpartition("/")
    name = f"{folder}{slash}{draw.choice('axz')}{file[1:]}{draw.choice(['', '.bak'])}"
    return _with(members, at, name=name)


def _added(members: list[Entry], draw: random.Random) -> list[Entry]:
    root = members[0].name.partition("/")[0]
    name = f"{root}/{draw.choice(_NAMES)}"
    extra = Entry(name, draw.choice([b"", draw.randbytes(100), members[-1].data]))
    at = draw.randint(0, len(members))
    return [*members[:at], extra, *members[at:]]


def _doubled(members: list[Entry], draw: random.Random) -> list[Entry]:
    twin = draw.choice([member for member in members if member.data])
    changed = twin._replace(data=_bits(twin.data, draw))
    return [changed, *members] if draw.getrandbits(1) else [*members, changed]


def _shuffled(members: list[Entry], draw: random.Random) -> list[Entry]:
    return draw.sample(members, len(members))


def _stored(members: list[Entry], _draw: random.Random) -> list[Entry]:
    return [member._replace(method=zipfile.ZIP_STORED) for member in members]


def _edited(members: list[Entry], draw: random.Random) -> list[Entry]:
    """Change a value, drop a key or add one in a member that is JSON."""
    documents = [(i, m) for i, m in enumerate(members) if _json(m.data) is not None]
    at, member = draw.choice(documents)
    document = _json(member.data)
    holders = [h for h in _holders(document) if h]
    holder: Any = draw.choice(holders)
    key = draw.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
    way = draw.choice(["change", "change", "drop", "nothing", "exchange"])
    if way == "drop":
        del holder[key]
    elif way == "change":
        holder[key] = _other(holder[key], draw)
    else:
        holder[key] = None if way == "nothing" else draw.choice([[], {}, "", 0, True])
    return _with(members, at, data=json.dumps(document).encode())


def _one_fact(members: list[Entry], draw: random.Random) -> list[Entry]:
    """Drop one fact of the largest member that is JSON, or give another value or kind.

    A fact is drawn by its place: each field of each object is as likely as any other.
    """
    at, member = max(
        ((i, m) for i, m in enumerate(members) if _json(m.data) is not None),
        key=lambda found: len(found[1].data),
    )
    document = _json(member.data)
    places = [
        (holder, key)
        for holder in _holders(document)
        for key in (list(holder) if isinstance(holder, dict) else range(len(holder)))
    ]
    holder, key = draw.choice(places)
    way = draw.choice(["drop", "value", "kind"])
    if way == "drop":
        del holder[key]
    elif way == "value":
        holder[key] = _other(holder[key], draw)
    else:
        kinds = [None, True, 0, -1, 0.5, "", "x", [], [0], {}, {"x": 0}]
        other = [kind for kind in kinds if type(kind) is not type(holder[key])]
        holder[key] = draw.choice(other)
    return _with(members, at, data=json.dumps(document).encode())


def _json(data: bytes) -> Any:
    try:
        found = json.loads(data)
    except ValueError:
        return None
    return found if isinstance(found, (dict, list)) else None


def _holders(tree: Any) -> list[Any]:
    if not isinstance(tree, (dict, list)):
        return []
    children = tree.values() if isinstance(tree, dict) else tree
    return [tree, *(holder for child in children for holder in _holders(child))]


def _other(value: Any, draw: random.Random) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return value + draw.choice([-1, 1, 2**31, -(2**40)])
    return f"{value}{draw.choice('x1 ')}" if isinstance(value, str) else [value]


def _with(members: list[Entry], at: int, **changes: Any) -> list[Entry]:
    return [m._replace(**changes) if i == at else m for i, m in enumerate(members)]


def _in_members(change: Change) -> Mutation:
    def mutate(data: bytes, draw: random.Random) -> bytes:
        return archives.packed(change(archives.unpacked(data), draw))

    return mutate


KINDS: Mapping[str, Mutation] = {
    "bits": _bits,
    "bits of the directory": _directory,
    "overwritten": _overwritten,
    "truncated": _truncated,
    "beheaded": _beheaded,
    "grown": _grown,
    "prefixed": _prefixed,
    "bits of a member": _in_members(_member_bits),
    "bits of the library": _in_members(_library_bits),
    "a member cut": _in_members(_member_cut),
    "members swapped": _in_members(_swapped),
    "a member removed": _in_members(_removed),
    "a member renamed": _in_members(_renamed),
    "a member added": _in_members(_added),
    "a member doubled": _in_members(_doubled),
    "members shuffled": _in_members(_shuffled),
    "members stored": _in_members(_stored),
    "facts edited": _in_members(_edited),
    RESEALED: _in_members(_one_fact),
}
