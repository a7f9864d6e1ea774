"""What the reference writes, beyond what clauses can ask of any implementation."""

from __future__ import annotations

import base64
import copy
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import aoti_ref
from aoti_ref import _archive, _elf, _kernels, _literals, _manifest, _package, _program
from aoti_ref._weights import Constant
from conformance import isolated
from conformance.adapters import reference
from conformance.cache import PackageCache
from conformance.models import blocks, constants, kinds

SCHEMA = Path(aoti_ref.__file__).with_name("aoti-package-2.schema.json")


@pytest.fixture(scope="session")
def archive(request: pytest.FixtureRequest) -> bytes:
    """The package of a Stack."""
    root = Path(request.config.getoption("aoti_cache"))

    def make() -> Any:
        impl: Any = reference
        module = blocks.seeded(blocks.Stack)
        return PackageCache(root, impl).compiled(module, blocks.call()).package.archive

    ending = isolated.run_forked(make, deadline_s=300)
    assert ending.kind == "answer", ending.text
    found: bytes = ending.answer
    return found


def sealed(archive: bytes, form: str = _manifest.FORMAT, **changes: Any) -> bytes:
    """Change fields of a manifest, and seal it anew."""
    members = {
        name.partition("/")[2]: data
        for name, data in _archive.read(archive, "test").items()
    }
    fields = json.loads(members.pop(_manifest.NAME)) | changes
    manifest = _manifest.seal(fields | {"format": form}, members, form)
    named = {_manifest.NAME: manifest, **members}
    return _archive.write({f"archive/{n}": data for n, data in named.items()})


def test_manifest_is_as_its_schema_has_it(archive: bytes) -> None:
    manifest = aoti_ref.read_manifest(archive)

    jsonschema.validate(manifest, json.loads(SCHEMA.read_text()))
    assert manifest["needs"]["libraries"]["GLIBC"]
    assert set(_package.Described._fields) - {"literals"} <= {
        *manifest,
        *manifest["contract"],
    }


@pytest.mark.parametrize("kind", ["pair", "slot"])
def test_manifest_with_a_tensor_out_of_sight_is_as_its_schema_has_it(
    request: pytest.FixtureRequest, kind: str
) -> None:
    impl: Any = reference
    cache = PackageCache(Path(request.config.getoption("aoti_cache")), impl)
    module = blocks.seeded(lambda: kinds.Hidden(kind))

    ending = isolated.run_forked(
        lambda: cache.compiled(module, constants.call()).package.archive,
        deadline_s=300,
    )

    assert ending.kind == "answer", ending.text
    manifest = aoti_ref.read_manifest(ending.answer)
    assert manifest["places"]
    jsonschema.validate(manifest, json.loads(SCHEMA.read_text()))


@pytest.mark.parametrize("form", ["aoti_ref/1", "aoti_ref/3", ""])
def test_other_formats_are_refused_by_version(archive: bytes, form: str) -> None:
    with pytest.raises(aoti_ref.BrokenPackage, match=repr(form)):
        aoti_ref.CompiledModel(sealed(archive, form))


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"constants": {}}, "constants"),
        ({"device": None}, "device"),
        ({"contract": {}}, "module"),
        ({"needs": {}}, "needs.torch"),
        ({"constants": [{"name": "a"}]}, "constants|shape"),
    ],
    ids=["constants", "device", "contract", "needs", "constant"],
)
def test_field_that_is_none_is_named(
    archive: bytes, changes: dict[str, Any], word: str
) -> None:
    with pytest.raises(aoti_ref.BrokenPackage, match=word):
        aoti_ref.CompiledModel(sealed(archive, **changes))


def _told(manifest: dict[str, Any], way: str, value: Any) -> dict[str, Any]:
    """Change what is at the end of a way of keys and numbers; give what changed."""
    first, *steps = way.split(".")
    fields: dict[str, Any] = copy.deepcopy({first: manifest[first]})
    found: Any = fields
    *before, last = [first, *(int(k) if k.isdecimal() else k for k in steps)]
    for step in before:
        found = found[step]
    found[last] = value
    return fields


@pytest.mark.parametrize(
    ("way", "value"),
    [
        ("contract.writes", ["nowhere"]),
        ("contract.writes", [["a"]]),
        ("contract.arguments.scale", ["list"]),
        ("contract.arguments.scale", ["dict", ["*"]]),
        ("contract.arguments", {"hidden_states": "*"}),
        ("contract.arguments", None),
        ("contract.leaves", ["x", "y"]),
        ("contract.leaves.0.device", "x/../y"),
        ("contract.leaves.0.dtype", "load"),
        ("contract.leaves.0.order", [0, 0, 1]),
        ("contract.leaves.0.sizes", [2, 8, ["s0", 1, 0]]),
        ("contract.leaves.0.sizes", [2, 8, None]),
        ("contract.symbols", {"s0": [None, 1, 2]}),
        ("contract.conditions", ["s7 > 2"]),
        ("contract.conditions", ["print()"]),
        ("contract.outputs", ["load"]),
        ("contract.result", None),
        ("contract.mutates_inputs", "no"),
        ("contract.module", 3),
        ("constants.0.name", ["a"]),
        ("constants.0.stride", ["a"]),
        ("constants.0.stride", []),
        ("constants.0.shape", [-1]),
        ("constants.0.shape", [2**70]),
        ("constants.0.dtype", None),
        ("constants.0.device", 0),
        ("constants.0.literal", 1),
        ("places.nowhere", ["", [["key", "a"]], ""]),
        ("places.blocks", ["", [], ""]),
        ("needs.cpu", [1]),
        ("needs.libraries", {"GLIBC": 2}),
    ],
)
def test_field_that_is_sealed_anew_is_refused_at_load(
    archive: bytes, way: str, value: Any
) -> None:
    manifest = aoti_ref.read_manifest(archive)

    with pytest.raises(aoti_ref.BrokenPackage):
        aoti_ref.CompiledModel(sealed(archive, **_told(manifest, way, value)))


@pytest.mark.parametrize("field", ["attention", "ops", "ties", "kernels"])
def test_list_of_something_else_is_refused_at_load(archive: bytes, field: str) -> None:
    with pytest.raises(aoti_ref.BrokenPackage, match="manifest"):
        aoti_ref.CompiledModel(sealed(archive, **_told({field: []}, field, [3])))


@pytest.mark.parametrize(
    ("shape", "stride"), [([5], [1]), ([2], [1 << 40]), ([2, 2], [2, 1])]
)
def test_literal_of_other_bytes_is_refused(shape: list[int], stride: list[int]) -> None:
    constant = Constant("a", "float32", tuple(shape), tuple(stride), "cpu", True)
    text = base64.b64encode(bytes(8))

    with pytest.raises(ValueError, match="8 bytes"):
        _literals.read(text, constant)


@pytest.mark.parametrize(
    ("change", "error", "word"),
    [
        ({"imports": ["no_such.library"]}, aoti_ref.WrongHost, "no_such"),
        ({"spec": "[]"}, aoti_ref.BrokenPackage, "result"),
        ({"spec": None}, aoti_ref.BrokenPackage, "result"),
        ({"imports": 3}, aoti_ref.BrokenPackage, "result"),
    ],
    ids=["library", "empty", "none", "imports"],
)
def test_result_that_cannot_be_made_is_refused_by_apply(
    archive: bytes, change: dict[str, Any], error: type[Exception], word: str
) -> None:
    manifest = aoti_ref.read_manifest(archive)
    said = json.loads(manifest["contract"]["result"]) | change
    told = _told(manifest, "contract.result", json.dumps(said))
    model = aoti_ref.CompiledModel(sealed(archive, **told))

    with pytest.raises(error, match=word):
        aoti_ref.apply(model, blocks.seeded(blocks.Stack))


def test_constant_that_only_the_library_has_is_refused(
    archive: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    kept = aoti_ref.read_manifest(archive)["constants"][1:]

    def call() -> str:
        model = aoti_ref.CompiledModel(sealed(archive, constants=kept))
        module = blocks.seeded(blocks.Stack)
        aoti_ref.apply(model, module)
        with pytest.raises(aoti_ref.BrokenPackage) as refusal:
            module(**blocks.call().kwargs)
        assert list(tmp_path.iterdir()) == []
        return str(refusal.value)

    ending = isolated.run_forked(call, deadline_s=60)
    assert ending.kind == "answer", ending.text
    assert "its library has the constant" in ending.answer


def test_sources_are_kept_on_request(archive: bytes, tmp_path: Path) -> None:
    call = aoti_ref.Call((), blocks.call().kwargs)
    _, described, _ = _program.describe_program(
        aoti_ref.export(blocks.seeded(blocks.Stack), call)
    )
    libraries = [d for d in _archive.read(archive, "").values() if _elf.is_library(d)]
    files = [tmp_path / "a.wrapper.so", tmp_path / "a.wrapper.cpp"]
    files[0].write_bytes(libraries[0])
    files[1].write_text(f"#include <{tmp_path}/a.h>")

    kept, without = (
        _archive.names(
            _package.build(
                files,
                described,
                options={"max_autotune": True},
                keep_sources=keep,
                source={"repo": "a/b", "revision": "c"},
                kernels=[_kernels.Kernel("k/l", "m", "", ())],
                private=[str(tmp_path)],
            ),
            "test",
        )
        for keep in (True, False)
    )

    assert {name.rpartition("/")[2] for name in set(kept) - set(without)} == {
        "a.wrapper.cpp"
    }
    assert str(tmp_path) not in files[1].read_text()


def test_folder_of_somebody_else_is_not_replaced(
    archive: bytes, tmp_path: Path
) -> None:
    compiled = aoti_ref.CompiledModel(archive)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()

    with pytest.raises(FileExistsError, match="mine"):
        aoti_ref.save_folder(compiled, tmp_path / "mine")
    for _ in range(2):
        aoti_ref.save_folder(compiled, tmp_path / "package")

    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.tex"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "package"]
    loaded: Any = aoti_ref.load(tmp_path / "package")
    assert loaded.manifest == compiled.manifest


@pytest.mark.parametrize(
    "name", ["a\0b", ".", "root", "root/package.pt2/x", "x" * 300, "absent"]
)
def test_folder_without_a_file_that_it_lists_is_refused(
    tmp_path: Path, name: str
) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "package.pt2").touch()
    seal = _manifest.seal({"regions": None}, {name: b""}, "aoti_ref.folder/2")
    (tmp_path / "aoti_ref.json").write_bytes(seal)

    with pytest.raises(aoti_ref.BrokenPackage, match="member"):
        aoti_ref.load(tmp_path)


def test_folder_names_no_file_outside(archive: bytes, tmp_path: Path) -> None:
    aoti_ref.save_folder(aoti_ref.CompiledModel(archive), tmp_path / "package")
    (tmp_path / "outside").write_bytes(b"")
    seal = _manifest.seal({"regions": None}, {"../outside": b""}, "aoti_ref.folder/2")
    (tmp_path / "package" / "aoti_ref.json").write_bytes(seal)

    with pytest.raises(aoti_ref.BrokenPackage, match="outside"):
        aoti_ref.load(tmp_path / "package")
