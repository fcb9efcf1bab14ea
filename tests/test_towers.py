"""Text encoders in files of their own, in any order; position ids; and which layer is read."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from safetensors.torch import load_file, save_file

from timecli.editing import compiling
from timecli.editing.delta import load_delta
from timecli.errors import CheckpointError
from timecli.manifests.manifest import parse
from timecli.models import layouts, streams
from timecli.models.checkpoint import open_checkpoint
from timecli.text import encoding

from .conftest import PICTUREBOOK, ROSES, Run, small_manifest
from .test_families import named, plain, sdxl, single_file, to_openclip

__all__ = ["sdxl"]  # the fixture

CPU = torch.device("cpu")
MANIFEST = 'name = "blue"\n[[edit]]\nsource = "A pack of roses"\ndestination = "A pack of blue roses"\n'
PROMPTS = ["A pack of blue roses", "A tulip"]


def sparse(path: Path, shapes: dict[str, tuple[int, ...]]) -> Path:
    """A file whose header says what it should and whose numbers are holes: full size, and no room on the disk."""
    entries, position = {}, 0
    for name, shape in shapes.items():
        stop = position + 2 * math.prod(shape)
        entries[name] = {"dtype": "F16", "shape": shape, "data_offsets": [position, stop]}
        position = stop
    text = json.dumps(entries).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + position)
    return path


@pytest.fixture
def parts(tmp_path: Path) -> dict[str, Path]:
    """A full-size SDXL's UNet and its text encoders in files of their own, as UIs keep them."""
    unet = {m.names[streams.LDM]: (8, 2048) for m in layouts.SDXL.matrices}
    return {
        "unet": sparse(tmp_path / "unet.safetensors", unet),
        "l": sparse(tmp_path / "clip_l.safetensors", {f"text_model.{layouts.HF_MARK}": (49408, 768)}),
        "g": sparse(tmp_path / "clip_g.safetensors", {f"text_model.{layouts.HF_MARK}": (49408, 1280)}),
        "h": sparse(tmp_path / "clip_h.safetensors", {layouts.OPENCLIP_MARK: (49408, 1024)}),
    }


@pytest.mark.parametrize("order", ["lg", "gl"])
def test_text_encoders_are_told_apart_by_their_widths(order: str, parts: dict[str, Path]) -> None:
    found = open_checkpoint(parts["unet"], text_encoder=[parts[letter] for letter in order]).texts
    assert [text.source for text in found] == [parts["l"], parts["g"]]


@pytest.mark.parametrize(
    ("given", "missing"), [("", "CLIP ViT-L"), ("l", "bigG"), ("g", "CLIP ViT-L"), ("ll", "bigG"), ("gg", "CLIP ViT-L")]
)
def test_the_missing_one_is_named_before_anything_is_compiled(
    given: str, missing: str, run: Run, parts: dict[str, Path], tmp_path: Path
) -> None:
    """Also where only a delta is written, which no matrix checks."""
    (tmp_path / "m.toml").write_text(MANIFEST)
    options = [word for letter in given for word in ("--text-encoder", parts[letter])]
    done = run("edit", tmp_path / "m.toml", parts["unet"], *options, "--delta", tmp_path / "d")
    assert done.code == 2 and f"no text encoder {missing}" in done.err.replace("OpenCLIP ViT-", "")
    assert "--text-encoder" in done.err and not (tmp_path / "d").exists()


def test_widths_that_do_not_add_up_are_named(parts: dict[str, Path]) -> None:
    with pytest.raises(CheckpointError, match=r"takes text of width 2048 and .* is 768 .*clip_l.* \+ 1024 .*clip_h"):
        open_checkpoint(parts["unet"], text_encoder=[parts["h"], parts["l"]])


@pytest.mark.parametrize("openclip", [False, True], ids=["transformers' names", "OpenCLIP's names"])
def test_an_sdxl_unet_with_two_files_is_edited_as_the_whole_model(
    openclip: bool, run: Run, sdxl: tuple[StableDiffusionXLPipeline, Path], tmp_path: Path
) -> None:
    pipeline, folder = sdxl
    (tmp_path / "m.toml").write_text(MANIFEST)
    save_file(single_file(pipeline.unet, layouts.SDXL, {}), tmp_path / "unet.safetensors", {"format": "pt"})
    save_file(named(plain(pipeline.text_encoder)), tmp_path / "l.safetensors", {"format": "pt"})
    second = plain(pipeline.text_encoder_2)
    other = to_openclip(second, False) if openclip else named(second)
    save_file(other, tmp_path / "g.safetensors", {"format": "pt"})
    given = ("--text-encoder", tmp_path / "l.safetensors", "--text-encoder", tmp_path / "g.safetensors")
    done = run("edit", tmp_path / "m.toml", tmp_path / "unet.safetensors", *given, "--delta", tmp_path / "one")
    assert done.code == 0, done.err
    assert run("edit", tmp_path / "m.toml", folder, "--delta", tmp_path / "two").code == 0
    one, two = (load_delta(tmp_path / name) for name in ("one", "two"))
    assert torch.equal(one.operator.left, two.operator.left) and one.origin.encoder == two.origin.encoder
    if not openclip:  # the widths are no released model's: the order counts
        swapped = (given[0], given[3], given[2], given[1])
        done = run("edit", tmp_path / "m.toml", tmp_path / "unet.safetensors", *swapped, "--delta", tmp_path / "x")
        assert done.code == 2 and "text_projection.weight" in done.err, "the control"


IDS = "cond_stage_model.transformer.text_model.embeddings.position_ids"


@pytest.mark.parametrize(
    ("stored", "sentence"),
    [
        (torch.arange(77)[None], None),
        (torch.arange(77)[None].half(), None),
        (torch.arange(77)[None] * 0.99995, "has 0.99995 in place of 1"),
        (torch.zeros(1, 77, dtype=torch.int64), "has 0 in place of 1"),
    ],
    ids=["right", "right in fp16", "a merge through fp16", "zeros"],
)
def test_position_ids_that_are_not_positions_are_named(
    stored: torch.Tensor, sentence: str | None, run: Run, picturebook_fp32: Path, tmp_path: Path
) -> None:
    tensors = load_file(picturebook_fp32)
    length = len(tensors[IDS.replace("position_ids", "position_embedding.weight")])
    save_file({**tensors, IDS: stored[:, :length].contiguous()}, tmp_path / "m.safetensors", {"format": "pt"})
    (tmp_path / "config").symlink_to(PICTUREBOOK / "config", target_is_directory=True)
    done = run("edit", ROSES, tmp_path / "m.safetensors", "-o", tmp_path / "out", "--delta", tmp_path / "d")
    assert done.code == 0
    if sentence is None:
        assert done.err == ""
    else:
        assert done.err.startswith("timecli: warning: ") and IDS in done.err and sentence in done.err
        assert done.err.count("\n") == 1
    assert run("edit", ROSES, picturebook_fp32, "--delta", tmp_path / "plain").code == 0
    assert torch.equal(load_delta(tmp_path / "d").operator.left, load_delta(tmp_path / "plain").operator.left)


def a1111(pipeline: StableDiffusionPipeline, skip: int) -> torch.Tensor:
    """What A1111's "clip skip" gives the UNet: a hidden state counted from the last, behind the final norm."""
    ids = pipeline.tokenizer(
        PROMPTS,
        padding="max_length",
        max_length=pipeline.text_encoder.config.max_position_embeddings,
        return_tensors="pt",
    ).input_ids
    model = getattr(pipeline.text_encoder, "text_model", pipeline.text_encoder)
    with torch.no_grad():
        hidden = pipeline.text_encoder(ids, output_hidden_states=True).hidden_states[-skip]
        states: torch.Tensor = model.final_layer_norm(hidden).double()
    return states


@pytest.fixture(scope="module")
def pipeline(picturebook_folder: Path) -> StableDiffusionPipeline:
    return StableDiffusionPipeline.from_pretrained(picturebook_folder, local_files_only=True, safety_checker=None)


@pytest.mark.parametrize("skip", [1, 2, 3])
def test_clip_skip_is_a1111s(skip: int, pipeline: StableDiffusionPipeline, picturebook_folder: Path) -> None:
    encoder = encoding.read_text_encoder(open_checkpoint(picturebook_folder), None, CPU, skip)
    found, wanted = torch.stack(list(encoder.embed(PROMPTS))), a1111(pipeline, skip)
    assert (found - wanted).norm() / wanted.norm() < 1e-5
    assert (found - a1111(pipeline, skip + 1)).norm() / wanted.norm() > 1e-2, "the control"


def test_clip_skip_is_diffusers_plus_one(pipeline: StableDiffusionPipeline, picturebook_folder: Path) -> None:
    """diffusers reads `text_encoder.text_model`, which transformers 5 has no more; it is lent to it here."""
    if not hasattr(pipeline.text_encoder, "text_model"):
        pipeline.text_encoder.text_model = pipeline.text_encoder
    try:
        with torch.no_grad():
            wanted = pipeline.encode_prompt(PROMPTS, CPU, 1, False, clip_skip=1)[0].double()
    finally:
        pipeline.text_encoder._modules.pop("text_model", None)
    encoder = encoding.read_text_encoder(open_checkpoint(picturebook_folder), None, CPU, 2)
    assert (torch.stack(list(encoder.embed(PROMPTS))) - wanted).norm() / wanted.norm() < 1e-5


def test_clip_skip_from_the_manifest_or_the_option_is_kept_in_the_delta(
    run: Run, picturebook: Path, tmp_path: Path
) -> None:
    (tmp_path / "m.toml").write_text(MANIFEST + "[solve]\nclip_skip = 2\n")
    (tmp_path / "plain.toml").write_text(MANIFEST)
    assert run("edit", tmp_path / "m.toml", picturebook, "--delta", tmp_path / "a").code == 0
    assert run("edit", tmp_path / "plain.toml", picturebook, "--clip-skip", "2", "--delta", tmp_path / "b").code == 0
    assert run("edit", tmp_path / "plain.toml", picturebook, "--delta", tmp_path / "c").code == 0
    assert run("edit", tmp_path / "m.toml", picturebook, "--clip-skip", "1", "--delta", tmp_path / "d").code == 0
    a, b, c, d = (load_delta(tmp_path / name) for name in "abcd")
    assert (a.origin.clip_skip, b.origin.clip_skip, c.origin.clip_skip, d.origin.clip_skip) == (2, 2, 1, 1)
    assert torch.equal(a.operator.left, b.operator.left) and torch.equal(c.operator.left, d.operator.left)
    assert not torch.equal(a.operator.left[:, :1], c.operator.left[:, :1]), "the control"
    assert a.origin.encoder == c.origin.encoder, "the text encoder is the same"
    assert run("apply", tmp_path / "a", picturebook, "-o", tmp_path / "out").code == 0


def test_verify_draws_with_the_layer_of_the_manifest(run: Run, picturebook: Path, tmp_path: Path) -> None:
    manifest, sheets = small_manifest(tmp_path), []
    for skip in ("1", "2", "2"):
        folder = tmp_path / f"report-{len(sheets)}"
        options = ("--clip-skip", skip, "--seeds", "1", "--steps", "2", "-o", folder)
        assert run("verify", manifest, picturebook, *options).code == 0
        sheets.append((folder / "sheet.png").read_bytes())
    assert sheets[1] == sheets[2] and sheets[0] != sheets[1]


def test_clip_skip_out_of_range_is_one_sentence(
    run: Run, picturebook: Path, sdxl: tuple[StableDiffusionXLPipeline, Path], tmp_path: Path
) -> None:
    (tmp_path / "m.toml").write_text(MANIFEST)
    for skip, model, sentence in (
        ("99", picturebook, "clip_skip can be 1 to"),
        ("2", sdxl[1], "leave clip_skip at 1"),
        ("0", picturebook, "--clip-skip"),
    ):
        done = run("edit", tmp_path / "m.toml", model, "--clip-skip", skip, "--delta", tmp_path / "d")
        assert done.code == 2 and sentence in done.err and not (tmp_path / "d").exists()


def test_an_encoder_that_was_read_otherwise_is_refused(picturebook: Path) -> None:
    checkpoint = open_checkpoint(picturebook)
    encoder = encoding.read_text_encoder(checkpoint, None, CPU)
    with pytest.raises(CheckpointError, match="has clip_skip 2 and the text encoder was read with 1"):
        compiling.compile_edit(parse(MANIFEST + "[solve]\nclip_skip = 2\n"), checkpoint, encoder, CPU)
