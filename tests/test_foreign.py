"""A file that is not what was asked for is named as what it is, with the command that helps."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import struct
import tarfile
import time
import zipfile
from pathlib import Path

import pytest
import torch

from timecli.errors import CheckpointError, ManifestError
from timecli.files.foreign import read_json
from timecli.files.safefile import open_file
from timecli.manifests.manifest import load

from .conftest import ROSES, Run

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 4265380512\n"
TEXT = 'name = "x"\ndescription = "Ros\u00e9s"\n[[edit]]\nsource = "A rose"\ndestination = "A blue rose"\n'


def zipped() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("model.safetensors", b"x")
    return content.getvalue()


def tarred() -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("model.safetensors"))
    return content.getvalue()


def torch_saved(new: bool) -> bytes:
    content = io.BytesIO()
    torch.save({"a": torch.zeros(1)}, content, _use_new_zipfile_serialization=new)
    return content.getvalue()


def header(text: bytes, data: int = 0) -> bytes:
    return struct.pack("<Q", len(text)) + text + bytes(data)


SHORT = header(b'{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}', 6)
MODELS = {
    "lfs.safetensors": (LFS, "is a Git LFS pointer, which stands for the file; run `git lfs pull`"),
    "lfs.ckpt": (LFS, "is a Git LFS pointer"),
    "page.safetensors": (b"\n<!DOCTYPE html><html>", "is a web page, not the file itself"),
    "upper.safetensors": (b"<HTML><BODY>404", "is a web page"),
    "denied.safetensors": (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code>', "is a web page"),
    "json.safetensors": (b'{"error":"Access to model x is restricted"}', 'begins with \'{"error":"Access to model'),
    "nested.safetensors": (b'{"error":{"code":401}}', 'is text, not a complete safetensors file, and begins with'),
    "text.safetensors": (b"Access denied.\n", "begins with 'Access denied"),
    "empty.safetensors": (b"", "is empty, not a complete safetensors file; download"),
    "empty.ckpt": (b"", "is empty"),
    "zeros.safetensors": (bytes(10_000), "is full of zeros where it should begin, as an unfinished download is"),
    "gguf.safetensors": (b"GGUF\x03\0\0\0", "is a GGUF file"),
    "gz.safetensors": (gzip.compress(SHORT), "is an archive; unpack it"),
    "zip.safetensors": (zipped(), "is an archive; unpack it"),
    "tar.safetensors": (tarred(), "is an archive; unpack it"),
    "torch.safetensors": (torch_saved(True), "is a pickle"),
    "legacy.safetensors": (torch_saved(False), "is a pickle"),
    "protocol4.safetensors": (pickle.dumps({}, 4), "is a pickle"),
    "cut.safetensors": (SHORT, r"is not a complete safetensors file \(10 of 79 bytes are missing\); download or copy"),
    "header.safetensors": (SHORT[:30], r"\(33 bytes of its header and all tensors are missing\)"),
    "long.safetensors": (SHORT + bytes(13), "is no safetensors file as it is, since 3 bytes follow its last tensor"),
    "manifest.toml": (TEXT.encode(), "is a manifest, not a model or a delta; `plan`, `edit` and `verify` take man"),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_a_model_that_is_something_else(name: str, tmp_path: Path) -> None:
    content, sentence = MODELS[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=sentence) as refusal:
        open_file(tmp_path / name)
    assert str(refusal.value).startswith(str(tmp_path / name)) and str(refusal.value).endswith(".")


def test_a_whole_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "whole.safetensors").write_bytes(SHORT + bytes(10))
    assert list(open_file(tmp_path / "whole.safetensors").entries) == ["a"], "the control"


ENCODINGS = {
    "utf-16": "UTF-16",
    "utf-16-le": "UTF-16",
    "utf-16-be": "UTF-16",
    "utf-32": "UTF-32",
    "utf-32-be": "UTF-32",
}


@pytest.mark.parametrize("encoding", [*ENCODINGS, "latin-1"])
def test_a_manifest_in_another_encoding(encoding: str, tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_bytes(TEXT.encode(encoding))
    name = ENCODINGS.get(encoding, "LATIN1")
    with pytest.raises(
        ManifestError, match=f"not a manifest in UTF-8 text .* but .*in {name}.*`iconv -f {name} -t UTF-8`"
    ):
        load(tmp_path / "x.toml")
    for right in ("utf-8", "utf-8-sig"):
        (tmp_path / "x.toml").write_bytes(TEXT.encode(right))
        assert load(tmp_path / "x.toml").description == "Ros\u00e9s", "the control"


def test_arguments_in_the_wrong_order(run: Run, small: Path, tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text(TEXT, encoding="utf-8")
    (tmp_path / "page.toml").write_bytes(b"<!DOCTYPE html>")
    (tmp_path / "lfs.toml").write_bytes(LFS)
    (tmp_path / "torch.bin").write_bytes(torch_saved(True))
    (tmp_path / "noise.toml").write_bytes(bytes(range(129, 256)) + b"\x01")
    (tmp_path / "big.toml").write_bytes(b"# " + b"x" * 2**25)
    delta = tmp_path / "x.delta"
    assert run("edit", tmp_path / "x.toml", small, "--delta", delta).code == 0
    swap = "is a model, not a manifest; give MANIFEST first, then MODEL"
    for arguments, sentence in (
        (("edit", small, tmp_path / "x.toml"), swap),
        (("plan", small), swap),
        (("plan", tmp_path / "torch.bin"), swap),
        (("edit", tmp_path, small), "is a folder, not a manifest; give MANIFEST first, then MODEL"),
        (("inspect", tmp_path / "x.toml"), "is a manifest, not a model"),
        (("apply", small, delta, "-o", tmp_path / "out"), "give DELTA first, then MODEL"),
        (("apply", tmp_path / "x.toml", small, "-o", tmp_path / "out"), "not a delta; `timecli edit` edits with it"),
        (("export", tmp_path / "x.toml", small, "-o", tmp_path / "out"), "not a delta; `timecli edit` edits with it"),
        (("edit", tmp_path / "x.toml", delta), "is a delta, not a model"),
        (("plan", tmp_path / "page.toml"), "is a web page"),
        (("plan", tmp_path / "lfs.toml"), "run `git lfs pull`"),
        (("plan", tmp_path / "noise.toml"), "is not a manifest in UTF-8 text (byte 0)."),
        (("plan", tmp_path / "big.toml"), "is too large for a manifest"),
        (("import", "timed", tmp_path / "lfs.toml", "-o", tmp_path / "out"), "run `git lfs pull`"),
    ):
        done = run(*arguments)
        assert done.code == 2 and sentence in done.err and done.err.count("\n") == 1, done.err
        assert not (tmp_path / "out").exists()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes of this system are others")
def test_pipes_devices_folders_and_links_are_no_files(run: Run, small: Path, tmp_path: Path) -> None:
    """A pipe that nobody writes to must not be waited for."""
    os.mkfifo(tmp_path / "pipe.safetensors")
    (tmp_path / "folder.safetensors").mkdir()
    (tmp_path / "dangling.safetensors").symlink_to("nowhere")
    (tmp_path / "loop.safetensors").symlink_to("loop.safetensors")
    started, out = time.perf_counter(), tmp_path / "out.safetensors"
    for name, sentence in (
        (tmp_path / "pipe.safetensors", "is a pipe, not a file"),
        (Path("/dev/zero"), "is a device, not a file"),
        (tmp_path / "folder.safetensors", "folder"),
        (tmp_path / "dangling.safetensors", "is a link to nowhere, which does not exist"),
        (tmp_path / "loop.safetensors", "symbolic links"),
        (small / "x", "Not a directory"),
        (Path("a" * 300), "name too long"),
    ):
        for arguments in (
            *(["plan", name], ["apply", name, small, "-o", out], ["import", "timed", name, "-o", tmp_path / "t"]),
            *(["edit", ROSES, small, "--text-encoder", name, "-o", out], ["inspect", name]),
        ):
            done = run(*arguments)
            assert done.code == 2 and done.err.startswith("timecli: ") and done.err.count("\n") == 1, done.err
            assert sentence in done.err or name.is_dir(), done.err
    assert time.perf_counter() - started < 60 and not out.exists()


def test_json_is_read_strictly() -> None:
    for text in (
        "NaN",
        "[1e999]",
        "-Infinity",
        "9" * 5000,
        '"\\ud800"',
        "[" * 5000,
        "[" * 40 + "]" * 40,
        b"\xff\xfe\xfa",
        "{",
    ):
        with pytest.raises(ValueError):
            read_json(text)
    assert read_json('{"a": [1, 2.5, "\\ud83c\\udf39", null]}') == {"a": [1, 2.5, "\U0001f339", None]}, "the control"
