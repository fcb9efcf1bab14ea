"""What of a model is written, how much that is, and what its header says."""

from __future__ import annotations

import contextlib
import json
import os
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from timecli.errors import CheckpointError, OutputError
from timecli.files.outfile import BLOCK, PAGE
from timecli.files.rewriting import DATA_HASH, rewrite, write_tensors
from timecli.files.safefile import open_file
from timecli.files.writing import sha256, write_bytes
from timecli.models.checkpoint import EDITS, Checkpoint, open_checkpoint
from timecli.models.contents import names, rewritten, size_on_disk
from timecli.shipping.publish import publish, write_checkpoint

from .stopped import make_file, make_folder, tree

WRITTEN = [
    "model_index.json",
    "notes.txt",
    "unet/config.json",
    "unet/diffusion_pytorch_model-00001-of-00002.safetensors",
    "unet/diffusion_pytorch_model-00002-of-00002.safetensors",
    "unet/diffusion_pytorch_model.fp16.safetensors",
    "vae/diffusion_pytorch_model.safetensors",
]
EDITED = WRITTEN[3:6]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model folder whose VAE has a config, with a pickle that is left out and weights of its owner's."""
    path = tmp_path / "in"
    make_folder(path)
    (path / "old.ckpt").unlink()
    (path / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"\x80\x02}q\x00.")
    (path / "unet" / ".DS_Store").write_text("a Mac's")
    return path


def opened(path: Path) -> Checkpoint:
    return open_checkpoint(path, needs="nothing")


def data(path: Path) -> int:
    """Bytes of a file, or of its tensors."""
    return path.stat().st_size - (0 if path.suffix in (".json", ".txt") else open_file(path).data)


def test_the_files_of_a_folder(folder: Path, tmp_path: Path) -> None:
    """Without what is hidden and what is left out; links are followed, and one that leads to nothing is named."""
    model = opened(folder)
    assert names(model) == WRITTEN
    write_checkpoint(model, tmp_path / "out", {}, {}, None)
    assert [
        str(p.relative_to(tmp_path / "out")) for p in sorted((tmp_path / "out").rglob("*")) if p.is_file()
    ] == WRITTEN
    (folder / "vae" / "more").symlink_to(folder / "notes.txt")
    (folder / "a" / "b").mkdir(parents=True)
    (folder / "a" / "b" / "c").touch()
    assert set(names(model)) == {*WRITTEN, "vae/more", "a/b/c"}
    write_checkpoint(model, tmp_path / "out of links", {}, {}, None)
    assert (tmp_path / "out of links" / "vae" / "more").read_text() == "mine"
    assert (tmp_path / "out of links" / "a" / "b" / "c").exists()
    (folder / "vae" / "gone").symlink_to(folder / "nowhere")
    with pytest.raises(CheckpointError, match="vae/gone is not a file, or a link to nothing; remove it"):
        names(model)


def test_in_place_the_edited_files_are_written_and_those_to_convert(folder: Path, tmp_path: Path) -> None:
    model, vae = opened(folder), folder / "vae"
    assert sorted(rewritten(model, False)) == [folder / name for name in EDITED]
    assert rewritten(model, True) == rewritten(model, False), "no config: the VAE is the owner's"
    (vae / "config.json").write_text("{}")
    assert rewritten(model, True) == [*rewritten(model, False), vae / "diffusion_pytorch_model.safetensors"]
    (vae / "other.safetensors").symlink_to(folder / EDITED[0])
    assert rewritten(model, True) == [*rewritten(model, False), vae / "diffusion_pytorch_model.safetensors"]
    (folder / "unet" / "config.json").unlink()
    assert sorted(rewritten(opened(folder), True))[:3] == [folder / name for name in EDITED]
    make_file(tmp_path / "file")
    assert rewritten(opened(tmp_path / "file"), True) == [tmp_path / "file"]


def test_the_size_is_what_is_written(folder: Path, tmp_path: Path) -> None:
    """Of what is converted, all but the headers; integers and float8 keep their size."""
    (folder / "vae" / "config.json").write_text("{}")
    weights = {"a": torch.ones(5), "b": torch.arange(3), "c": torch.ones(7, dtype=torch.float64)}
    weights["d"] = torch.ones(3, dtype=torch.uint8)
    save_file(weights, folder / "vae" / "diffusion_pytorch_model.safetensors")
    make_file(tmp_path / "file")
    for path in (folder, tmp_path / "file"):
        model, out = opened(path), tmp_path / f"out of {path.name}"
        files = [path / name for name in names(model)] if path == folder else [path]
        assert size_on_disk(model, None) == sum(file.stat().st_size for file in files)
        write_checkpoint(model, out, {}, {}, torch.float16)
        written = [file for file in out.rglob("*") if file.is_file()] or [out]
        assert size_on_disk(model, 2) == sum(map(data, written))
    model = opened(folder)
    assert size_on_disk(model, None, in_place=True) == sum((folder / name).stat().st_size for name in EDITED)
    assert size_on_disk(model, 2, in_place=True) == (2 * 32 * 2 * 8) * 2 + (5 + 7) * 2 + 3 * 8 + 3


def test_each_file_gets_its_own_tensors(folder: Path, tmp_path: Path) -> None:
    """Two copies have equal names, and a tensor goes into that of its place."""
    model = opened(folder)
    one, other = model.places[0], model.places[32]
    assert one.name == other.name and one.file.path != other.file.path
    about = {"timecli.test": "x"}
    write_checkpoint(
        model, tmp_path / "out", {one.key: torch.zeros(2, 8), other.key: torch.ones(2, 8) * 5}, about, None
    )
    for place, value in ((one, 0), (other, 5), (model.places[1], 1)):
        found = load_file(tmp_path / "out" / place.file.path.relative_to(folder))
        assert found[place.name].unique().tolist() == [value]


def test_whatever_lies_beside_the_unet_is_converted_with_its_metadata(folder: Path, tmp_path: Path) -> None:
    vae = Path("vae") / "diffusion_pytorch_model.safetensors"
    save_file({"a": torch.ones(5), "b": torch.arange(3)}, folder / vae, {"format": "pt", "made": "by others"})
    write_checkpoint(opened(folder), tmp_path / "out", {}, {"timecli.test": "x"}, torch.bfloat16)
    found = open_file(tmp_path / "out" / vae)
    assert found.metadata == {"format": "pt", "made": "by others"}
    assert {name: tensor.dtype for name, tensor in load_file(found.path).items()} == {
        "a": torch.bfloat16,
        "b": torch.int64,
    }
    assert open_file(tmp_path / "out" / EDITED[0]).metadata == {"timecli.test": "x"}
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine"


def test_another_model_is_replaced_unless_it_must_stay(folder: Path, tmp_path: Path) -> None:
    make_file(tmp_path / "file")
    for source, out in ((tmp_path / "file", tmp_path / "file out"), (folder, tmp_path / "folder out")):
        write_checkpoint(opened(source), out, {}, {}, None)
        before = tree(tmp_path)
        with pytest.raises(OutputError, match="use --force"):
            write_checkpoint(opened(source), out, {}, {"timecli.test": "x"}, None, replace=False)
        with pytest.raises(OutputError, match="use --force"):
            publish(opened(source), out, {}, [], None, False, replace=False)
        assert tree(tmp_path) == before
        write_checkpoint(opened(source), out, {}, {"timecli.test": "x"}, None)
        publish(opened(source), out, {}, [], None, False)
        assert opened(out).places[0].file.metadata[EDITS] == "[]"


def test_what_others_say_of_the_file_stays_while_it_is_true(tmp_path: Path) -> None:
    make_file(tmp_path / "plain")
    stale = dict.fromkeys((DATA_HASH, "sshs_model_hash", "sshs_legacy_hash"), "0")
    save_file(load_file(tmp_path / "plain"), tmp_path / "in", {**stale, "made": "by others", "z": "1", "gone": "1"})
    write_checkpoint(opened(tmp_path / "in"), tmp_path / "out", {}, {"z": "2", "a": "é", "gone": None}, None)
    assert open_file(tmp_path / "out").metadata == {"made": "by others", "z": "2", "a": "é"}
    assert list(json.loads((tmp_path / "out").read_bytes()[8 : open_file(tmp_path / "out").data])["__metadata__"]) == [
        "a",
        "made",
        "z",
    ]


def test_the_hash_is_of_the_written_file(tmp_path: Path, folder: Path) -> None:
    source, out = tmp_path / "file", tmp_path / "out"
    make_file(source)
    assert publish(opened(source), out, {}, [], None, False) == {}
    assert DATA_HASH not in open_file(out).metadata
    assert publish(opened(source), out, {}, [], None, True) == {"sha256": sha256(out)}
    found = open_file(out)
    assert found.metadata[DATA_HASH] == f"0x{sha256(out, found.data)}"
    assert json.loads(found.metadata["sd_merge_recipe"])["primary_model_hash"] == sha256(source)
    with pytest.raises(CheckpointError, match="in is a folder; --hash is for a single file"):
        publish(opened(folder), tmp_path / "no", {}, [], None, True)


def test_the_hash_is_on_the_disk_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is written last, and flushed when all of it is in the file."""
    seen, really = [b""], os.fsync

    def spy(descriptor: int) -> None:
        with contextlib.suppress(OSError):  # what is opened only to be written
            seen.append(os.pread(descriptor, 10**6, 0))
        really(descriptor)

    save_file({"a": torch.ones(2)}, tmp_path / "in", {DATA_HASH: "0" * 66})  # so short that a buffer would hold it
    monkeypatch.setattr(os, "fsync", spy)
    rewrite(open_file(tmp_path / "in"), tmp_path / "out", {}, {DATA_HASH: "0x"}, None)
    assert seen[-1] == (tmp_path / "out").read_bytes()


@pytest.mark.parametrize("with_hash", [False, True])
def test_what_is_taken_back_leaves_the_records(with_hash: bool, tmp_path: Path) -> None:
    make_file(tmp_path / "plain")
    records = [
        {"name": name, "version": "0", "lambdas": [0.1], "encoder": "", "base": "", "strength": 1.0} for name in "ab"
    ]
    publish(opened(tmp_path / "plain"), tmp_path / "both", {}, records, None, False)
    for count, left in ((1, records[:1]), (2, [])):
        out = tmp_path / f"without {count}"
        found = publish(opened(tmp_path / "both"), out, {}, [], torch.float16, with_hash, taken_back=count)
        assert opened(out).edits == left and (EDITS in open_file(out).metadata) == bool(left)
        assert found == ({"sha256": sha256(out)} if with_hash else {})
        assert (DATA_HASH in open_file(out).metadata) == with_hash
        assert {tensor.dtype for tensor in load_file(out).values()} == {torch.float16}


@pytest.mark.parametrize("begins", [PAGE * 2, PAGE * 2 + 8, PAGE * 3 - 8, PAGE * 2 + 1, PAGE * 3 - 1])
def test_the_data_begins_where_it_began_within_a_page(begins: int, tmp_path: Path) -> None:
    """At a multiple of 8 at any rate, which memory maps need."""
    make_file(tmp_path / "plain")
    content, start = (tmp_path / "plain").read_bytes(), open_file(tmp_path / "plain").data
    header = content[8:start].ljust(begins - 8)
    (tmp_path / "in").write_bytes(struct.pack("<Q", len(header)) + header + content[start:])
    assert open_file(tmp_path / "in").data == begins
    write_checkpoint(opened(tmp_path / "in"), tmp_path / "out", {}, {"more": "x" * 5001}, None)
    after = open_file(tmp_path / "out").data
    assert after % 8 == 0 and (begins % 8 or after % PAGE == begins % PAGE)
    assert start + 5000 < after < start + 5100 + PAGE, "no more than is needed"
    assert (tmp_path / "out").read_bytes()[after:] == content[start:]


def test_a_file_of_its_own(tmp_path: Path) -> None:
    """Its tensors stand in the order in which they were given, their data from the beginning of a page on."""
    tensors = {"b": torch.randn(3, 5), "a": torch.randn(7).bfloat16(), "c": torch.randn(2).half()}
    path = tmp_path / "x.safetensors"
    write_tensors(path, tensors, {"z": "1", "a": "2"})
    file, loaded = open_file(path), load_file(path)
    assert list(file.entries) == list(tensors) and file.metadata == {"a": "2", "z": "1"} and file.data == PAGE
    assert all(torch.equal(loaded[name], tensor) for name, tensor in tensors.items())
    for write in (
        lambda **more: write_tensors(path, tensors, {}, **more),
        lambda **more: write_bytes(path, b"y", **more),
    ):
        before = path.read_bytes()
        with pytest.raises(OutputError, match="use --force"):
            write(replace=False)
        assert path.read_bytes() == before
        write()
        assert path.read_bytes() != before


def test_the_sha_256_of_more_than_one_block(tmp_path: Path) -> None:
    import hashlib

    content = os.urandom(1000) * (BLOCK // 1000 + 10)
    (tmp_path / "x").write_bytes(content)
    assert sha256(tmp_path / "x") == hashlib.sha256(content).hexdigest()
    assert sha256(tmp_path / "x", 17) == hashlib.sha256(content[17:]).hexdigest()
