"""What goes through the pipes of a worker: a pickle, and the bytes of its tensors.

Every storage goes beside the pickle, once, however many tensors look at it. Shared
memory would be quicker, and would stay behind when a child is killed.
"""

from __future__ import annotations

import ctypes
import io
import os
import pickle
import struct
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from aoti_ref import _internals

if TYPE_CHECKING:
    from collections.abc import Callable

    # Waits until a descriptor is ready for the event; raises if it never will be.
    Wait = Callable[[int, int], None]

READ, WRITE = 0, 1
_HEAD = struct.Struct("!QQ")  # bytes of the pickle, number of storages
_SIZE = struct.Struct("!Q")
_CHUNK = 1 << 20


class Packed(NamedTuple):
    """A value taken apart."""

    text: bytes
    storages: list[torch.UntypedStorage]


class _Pickler(pickle.Pickler):
    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, protocol=pickle.HIGHEST_PROTOCOL)
        self.storages: list[torch.UntypedStorage] = []
        self._places: dict[int, int] = {}

    def persistent_id(self, value: Any) -> Any:
        if not torch.is_storage(value):
            return None
        storage, dtype = _internals.untyped(value)
        if storage.device.type != "cpu":
            message = f"it holds a tensor on {storage.device}; move it to the CPU first"
            raise pickle.PicklingError(message)
        place = self._places.setdefault(storage._cdata, len(self._places))
        if place == len(self.storages):
            self.storages.append(storage)
        return place, dtype


class _Unpickler(pickle.Unpickler):
    def __init__(self, packed: Packed) -> None:
        super().__init__(io.BytesIO(packed.text))
        # What was packed twice, as a call for a child that is there, has typed ones.
        bare = [_internals.untyped(storage)[0] for storage in packed.storages]
        self._storages = [_own(storage) for storage in bare]

    def persistent_load(self, found: Any) -> Any:
        place, dtype = found
        return _internals.typed(self._storages[place], dtype)


def pack(value: Any) -> Packed:
    """Take a value apart; its tensors stay where they are.

    Raises:
        Exception: Whatever pickle says of values that it cannot take apart.
    """
    file = io.BytesIO()
    pickler = _Pickler(file)
    pickler.dump(value)
    return Packed(file.getvalue(), pickler.storages)


def unpack(packed: Packed) -> Any:
    """Put a value together again, on the very storages of `packed`."""
    return _Unpickler(packed).load()


def send(file: int, packed: Packed, wait: Wait) -> None:
    """Write a value to a pipe.

    Raises:
        BrokenPipeError: Nobody can read it any more.
    """
    sizes = [_SIZE.pack(storage.nbytes()) for storage in packed.storages]
    head = _HEAD.pack(len(packed.text), len(sizes)) + b"".join(sizes)
    parts = memoryview(head), memoryview(packed.text), *map(_bytes, packed.storages)
    for part in parts:
        view = part
        while view:
            wait(file, WRITE)
            view = view[os.write(file, view[:_CHUNK]) :]


def receive(file: int, wait: Wait) -> Packed:
    """Read a value from a pipe.

    Raises:
        EOFError: The other end was closed before it was whole.
    """

    def fill(view: memoryview) -> None:
        while view:
            wait(file, READ)
            count = os.readv(file, [view[:_CHUNK]])
            if not count:
                raise EOFError
            view = view[count:]

    def read(size: int) -> bytes:
        data = bytearray(size)
        fill(memoryview(data))
        return bytes(data)

    length, count = _HEAD.unpack(read(_HEAD.size))
    sizes = [_SIZE.unpack(read(_SIZE.size))[0] for _ in range(count)]
    text = read(length)
    kind: Any = torch.UntypedStorage
    storages = [kind(size) for size in sizes]
    for storage in storages:
        fill(_bytes(storage))
    return Packed(text, storages)


def _bytes(storage: torch.UntypedStorage) -> memoryview:
    """Look at the memory of a storage."""
    if not storage.nbytes():
        return memoryview(b"")
    kind = ctypes.c_char * storage.nbytes()
    return memoryview(kind.from_address(storage.data_ptr())).cast("B")


def _own(storage: Any) -> Any:
    """Copy what is shared: a child could write into its parent's arguments."""
    return storage.clone() if storage.is_shared() else storage
