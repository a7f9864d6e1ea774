"""Archives of several packages: held to their manifests, at both levels, on reading.

The packages have a text for a library: nothing here is compiled, or run.
"""

from __future__ import annotations

import json
import pickle
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
import torch
from torch import nn

import aoti_ref
from aoti_ref import (
    _archive,
    _bundle,
    _card,
    _kernels,
    _manifest,
    _package,
    _program,
    _regions,
)
from aoti_ref import _variants as kinds
from conformance.isolated import run_forked
from conformance.meta.test_packages import SCHEMA
from conformance.models import blocks, quantised, variants
from conformance.ranges import dims

if TYPE_CHECKING:
    from pathlib import Path

    from conformance.adapter import Call


def packed(module: nn.Module, call: Call, folder: Path) -> aoti_ref.CompiledModel:
    """Make a package of a program, with a text for a library."""
    recorded = aoti_ref.Call(call.args, call.kwargs)
    program = aoti_ref.export(module, recorded, dynamic=dims(None))
    _, described, _ = _program.describe_program(program)
    (folder / "a.wrapper.so").write_text("no library")
    files = [folder / "a.wrapper.so"]
    return aoti_ref.CompiledModel(_package.build(files, described, options={}))


@pytest.fixture
def several(tmp_path: Path) -> aoti_ref.CompiledVariants:
    module = blocks.seeded(variants.Mixed)
    calls = variants.call(), variants.masked_call()
    return aoti_ref.CompiledVariants(packed(module, c, tmp_path) for c in calls)


@pytest.fixture
def regions(several: aoti_ref.CompiledVariants) -> aoti_ref.CompiledRegions:
    made = {"(class)": "models.Mixed"}
    some = _regions.Region(("a", "b"), several, made)
    other = _regions.Region(("c",), several.models[0], made)
    return aoti_ref.CompiledRegions("Net", None, (some, other), {"d": "why"})


def changed(data: bytes, form: _bundle.Form, **fields: Any) -> bytes:
    """Change fields of a bundle's manifest, and seal it anew."""
    manifest, graphs = _bundle.read(data, "test", form)
    said = {n: v for n, v in manifest.items() if n not in ("members", "digest")}
    said |= fields
    return _bundle.write(form._replace(name=said.pop("format")), said, graphs)


def unsized(data: bytes) -> bytes:
    """Take a size out of the manifest of variants, and make its digest anew."""
    members = _archive.read(data, "test")
    manifest = json.loads(members["variants/manifest.json"])
    del manifest["members"]["graphs/0.pt2"]["size"]
    manifest["digest"] = _manifest._digest(manifest)
    members["variants/manifest.json"] = json.dumps(manifest).encode()
    return _archive.write(members, compress=False)


def test_variants_are_read_back(
    several: aoti_ref.CompiledVariants, tmp_path: Path
) -> None:
    several.save(tmp_path / "one.pt2")
    aoti_ref.save_folder(several, tmp_path / "folder")

    for path in (tmp_path / "one.pt2", tmp_path / "folder"):
        loaded: Any = aoti_ref.load(path)
        assert loaded.domains == several.domains
        assert loaded.dump() == several.dump()
    assert pickle.loads(pickle.dumps(several)).dump() == several.dump()  # noqa: S301
    assert not list((tmp_path / "folder").glob("**/package.pt2"))


def test_regions_with_variants_are_read_back(
    regions: aoti_ref.CompiledRegions, tmp_path: Path
) -> None:
    regions.save(tmp_path / "one.pt2")
    aoti_ref.save_folder(regions, tmp_path / "folder")

    for path in (tmp_path / "one.pt2", tmp_path / "folder"):
        loaded: Any = aoti_ref.load(path)
        assert loaded.dump() == regions.dump()
        assert [len(region.compiled.models) for region in loaded.regions] == [2, 1]
    with pytest.raises(aoti_ref.NotInterchangeable, match="several graphs"):
        aoti_ref.save_blocks(regions, tmp_path / "blocks")


def test_blocks_replace_no_model(
    several: aoti_ref.CompiledVariants, tmp_path: Path
) -> None:
    made = {"(class)": "models.Mixed"}
    region = _regions.Region(("a",), several.models[0], made)
    compiled = aoti_ref.CompiledRegions("Net", None, (region,), {})
    model = tmp_path / "transformer"
    model.mkdir()
    (model / "config.json").write_text("theirs")

    for variant in (None, "fp8"):
        with pytest.raises(FileExistsError, match="transformer"):
            aoti_ref.save_blocks(compiled, model, variant=variant)
    for _ in range(2):
        aoti_ref.save_blocks(compiled, tmp_path / "blocks")

    assert [path.read_text() for path in model.iterdir()] == ["theirs"]
    assert (tmp_path / "blocks" / "Mixed" / "package.pt2").is_file()


def test_every_level_is_held_to_its_manifest(
    regions: aoti_ref.CompiledRegions, several: aoti_ref.CompiledVariants
) -> None:
    whole, inner = regions.dump(), several.dump()
    (known, *others) = _bundle.read(whole, "test", _regions.FORM)[1]
    assert known == inner
    members = _archive.read(whole, "test")
    graphs = _bundle.read(inner, "test", kinds.FORM)[1]
    told = regions.told()
    cases = {
        # A graph that was exchanged, with the archive's checksums made anew.
        "was changed|should have": _archive.write(
            {**members, "regions/graphs/1.pt2": graphs[1]}, compress=False
        ),
        "not in its manifest": _archive.write({**members, "regions/more": b""}),
        "not in its folder": _archive.write({**members, "other/manifest.json": b""}),
        "99": changed(whole, _regions.FORM, format="aoti_ref.regions/99"),
        "shorter than": changed(whole, _regions.FORM, regions=[["a", {}]]),
        # What the outer manifest vouches for is wrong in itself.
        "variants/1": _bundle.write(
            _regions.FORM,
            told,
            [changed(inner, kinds.FORM, format="aoti_ref.variants/1"), *others],
        ),
        "no members.graphs/0.pt2.size": unsized(inner),
        "3 graphs": changed(inner, kinds.FORM, graphs=3),
        "DeadVariant": _bundle.write(kinds.FORM, {"graphs": 2}, graphs[:1] * 2),
        "no whole|not a whole": _bundle.write(
            _regions.FORM, told, [inner[: len(inner) // 2], *others]
        ),
    }

    for words, data in cases.items():
        with pytest.raises(aoti_ref.BrokenPackage, match=words):
            _regions.read(data, "test")


def test_sizes_are_held_before_anything_is_unpacked(
    several: aoti_ref.CompiledVariants, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = _archive.read(several.dump(), "test")
    grown = _archive.write({**members, "variants/graphs/0.pt2": bytes(1 << 20)})
    read: list[str] = []
    content = _archive._content

    def watched(archive: Any, entry: Any) -> bytes:
        read.append(entry.filename)
        return content(archive, entry)

    monkeypatch.setattr(_archive, "_content", watched)
    with pytest.raises(aoti_ref.BrokenPackage, match=r"graphs/0\.pt2 should have"):
        _regions.read(grown, "test")

    assert read == ["variants/manifest.json"]


def test_a_note_for_the_hub_names_every_graph(
    regions: aoti_ref.CompiledRegions, several: aoti_ref.CompiledVariants
) -> None:
    said: dict[str, Any] = {"model": "", "model_revision": "", "figures": {}}
    notes = {
        kind: _card.note(compiled, "0" * 64, variant="", **said)
        for kind, compiled in (("regions", regions), ("variants", several))
    }

    assert [*notes["variants"]["contracts"]] == ["graph 0", "graph 1"]
    assert [*notes["regions"]["contracts"]] == ["a, b, graph 0", "a, b, graph 1", "c"]
    assert (notes["variants"]["module"], notes["regions"]["module"]) == ("Mixed", "Net")
    needs = several.models[0].manifest["needs"]
    assert notes["variants"]["torch"] == needs["torch"] == _card.release()
    assert "graph 1" in _card.card("acme/mixed", {"here": notes["variants"]})


def test_kernels_are_in_the_manifest_and_asked_for(tmp_path: Path) -> None:
    given = {"repo": "acme/kernel", "revision": "5e1f00d"}
    (kernel,) = _kernels.recorded(["elsewhere::attend"], [given])
    (tmp_path / "a.wrapper.so").write_text("no library")
    module, call = blocks.seeded(blocks.Stack), blocks.call()
    program = aoti_ref.export(module, aoti_ref.Call(call.args, call.kwargs))
    _, described, _ = _program.describe_program(program)
    model = aoti_ref.CompiledModel(
        _package.build(
            [tmp_path / "a.wrapper.so"],
            described._replace(ops=["elsewhere::attend"]),
            options={},
            source={"repo": "acme/base", "revision": "c0ffee"},
            kernels=[kernel],
        )
    )

    jsonschema.validate(model.manifest, json.loads(SCHEMA.read_text()))
    assert model.package.kernels == [kernel]
    with pytest.raises(aoti_ref.MissingOperators, match="acme/kernel at 5e1f00d"):
        aoti_ref.apply(model, module)
    note = _card.note(
        model, "0" * 64, model="", model_revision="", variant="", figures={}
    )
    assert note["ops"] == ["elsewhere::attend"]
    assert note["model"] == "acme/base"
    assert aoti_ref.Kernel.read(note["kernels"][0]) == kernel
    pickled: Any = pickle.loads(pickle.dumps(model))  # noqa: S301
    assert pickled.package.kernels == [kernel]


class Counting(nn.Module):
    """Writes into a buffer, multiplies by a literal, and returns a size too."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = nn.Buffer(torch.zeros(1))

    def forward(self, x: torch.Tensor, more: dict[str, Any]) -> dict[str, Any]:
        self.calls.add_(1)
        rows = x * torch.tensor([1.0, 2.0]) + more["k"][0]
        return {"rows": rows, "count": x.shape[0]}


def test_programs_of_torchs_own_export_are_read_back(tmp_path: Path) -> None:
    def make() -> bytes:
        call = torch.randn(3, 2), {"k": (torch.randn(2),)}
        ranges = {"x": {0: torch.export.Dim("rows")}, "more": {"k": (None,)}}
        program = torch.export.export(Counting().eval(), call, dynamic_shapes=ranges)
        _, described, _ = _program.describe_program(program)
        (tmp_path / "a.wrapper.so").write_text("no library")
        files = [tmp_path / "a.wrapper.so"]
        return _package.build(files, described, options={})

    ending = run_forked(make, deadline_s=120)
    assert ending.kind == "answer", ending.text
    package = aoti_ref.CompiledModel(ending.answer).package

    assert [symbol.max for symbol in package.contract.symbols.values()] == [2**63 - 1]
    assert package.contract.writes == ("calls",)
    assert package.literals
    assert package.result().num_leaves == len(package.contract.outputs)


def test_quantised_weights_are_in_the_manifest(tmp_path: Path) -> None:
    def make() -> bytes:
        module = quantised.quantised(quantised.Mlp, 0)
        return packed(module, quantised.call(), tmp_path).dump()

    ending = run_forked(make, deadline_s=120)
    assert ending.kind == "answer", ending.text
    model = aoti_ref.CompiledModel(ending.answer)

    jsonschema.validate(model.manifest, json.loads(SCHEMA.read_text()))
    assert all(place.whole for place in model.package.places.values())
    assert model.manifest["quantisation"] == "Float8Tensor"
