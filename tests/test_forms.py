"""Every form of SD 1.x files: moving averages, NAI's names, a UNet alone, variants, shards, other channels."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from timecli.editing.delta import load_delta
from timecli.errors import CheckpointError
from timecli.models import layouts, streams
from timecli.models.checkpoint import open_checkpoint

from .conftest import Run, ldm, small_tensors

SMALL = 'name = "blue"\n[[edit]]\nsource = "A pack of roses"\ndestination = "A pack of blue roses"\n'
TEXT = layouts.SD1.towers[0].prefixes[0]


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    (tmp_path / "blue.toml").write_text(SMALL)
    return tmp_path / "blue.toml"


def changes(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    assert before.keys() == after.keys()
    return {name for name in before if not torch.equal(before[name], after[name])}


def expected(weight: torch.Tensor, before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    """What the edit makes of another matrix: D is found from one that has as many rows as columns."""
    d = torch.linalg.lstsq(before.double(), after.double() - before.double()).solution
    return weight.double() @ (torch.eye(len(d), dtype=torch.float64) + d)


@pytest.mark.parametrize("prefix", layouts.EMA_PREFIXES)
def test_moving_averages_get_the_edit_from_their_own_weights(
    prefix: str, run: Run, manifest: Path, tmp_path: Path
) -> None:
    tensors = small_tensors(rows=64)
    names = {ldm(m): prefix + m.names[streams.LDM].replace(".", "") for m in layouts.SD1.matrices}
    tensors |= {twin: tensors[name] * 0.9 + 0.01 for name, twin in names.items()}
    save_file(tensors, tmp_path / "ema.safetensors")
    assert run("edit", manifest, tmp_path / "ema.safetensors", "-o", tmp_path / "out").code == 0
    after = load_file(tmp_path / "out")
    assert changes(tensors, after) == {*names, *names.values()}
    for name, twin in names.items():
        wanted = expected(tensors[twin], tensors[name], after[name])
        assert (after[twin] - wanted).norm() / wanted.norm() < 1e-4
    options = ("-o", tmp_path / "left", "--leave-ema")
    assert run("edit", manifest, tmp_path / "ema.safetensors", *options).code == 0
    assert changes(tensors, load_file(tmp_path / "left")) == set(names)


def test_a_text_encoder_without_text_model_in_its_names(run: Run, manifest: Path, small: Path, tmp_path: Path) -> None:
    """The edit is the same, byte for byte, and the names stay as they are."""
    tensors = load_file(small)
    save_file({name.replace(".text_model.", "."): t for name, t in tensors.items()}, tmp_path / "nai.safetensors")
    assert run("edit", manifest, tmp_path / "nai.safetensors", "-o", tmp_path / "a").code == 0
    assert run("edit", manifest, small, "-o", tmp_path / "b").code == 0
    one, other = load_file(tmp_path / "a"), load_file(tmp_path / "b")
    assert all(torch.equal(one[ldm(m)], other[ldm(m)]) for m in layouts.SD1.matrices)
    assert one.keys() == {name.replace(".text_model.", ".") for name in other}


@pytest.mark.parametrize(
    "spelling", ["model.diffusion_model.", "", "diffusers"], ids=["whole names", "bare names", "diffusers"]
)
@pytest.mark.parametrize("source", ["model", "file", "folder"])
def test_a_unet_alone_takes_a_text_encoder_from_elsewhere(
    spelling: str, source: str, run: Run, manifest: Path, small: Path, tmp_path: Path
) -> None:
    tensors = load_file(small)
    if spelling == "diffusers":
        unet = {m.names[streams.DIFFUSERS]: tensors[ldm(m)] for m in layouts.SD1.matrices}
    else:
        unet = {spelling + m.names[streams.LDM]: tensors[ldm(m)] for m in layouts.SD1.matrices}
    save_file(unet, tmp_path / "unet.safetensors")
    (tmp_path / "te").mkdir()
    own = {f"text_model.{n.removeprefix(TEXT)}": t for n, t in tensors.items() if n.startswith(TEXT)}
    save_file(own, tmp_path / "te" / "model.safetensors", {"format": "pt"})
    where = {"model": small, "file": tmp_path / "te" / "model.safetensors", "folder": tmp_path / "te"}[source]
    refused = run("edit", manifest, tmp_path / "unet.safetensors", "-o", tmp_path / "out")
    assert refused.code == 2 and "has no text encoder" in refused.err and "--text-encoder" in refused.err
    done = run("edit", manifest, tmp_path / "unet.safetensors", "--text-encoder", where, "-o", tmp_path / "out")
    assert done.code == 0, done.err
    assert run("edit", manifest, small, "-o", tmp_path / "whole").code == 0
    found, whole = load_file(tmp_path / "out"), load_file(tmp_path / "whole")
    for matrix, name in zip(layouts.SD1.matrices, unet, strict=True):
        assert torch.equal(found[name], whole[ldm(matrix)])


def test_a_folder_with_variants_and_shards(run: Run, manifest: Path, picturebook_folder: Path, tmp_path: Path) -> None:
    """Each variant from its own weights, each shard in its own file, everything else as it was."""
    manifest.write_text(SMALL)
    source = shutil.copytree(picturebook_folder, tmp_path / "model")
    unet = load_file(source / "unet" / "diffusion_pytorch_model.safetensors")
    (source / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    halves = {name: tensor.half() for name, tensor in unet.items()}
    save_file(halves, source / "unet" / "diffusion_pytorch_model.fp16.safetensors", {"format": "pt"})
    names, shards = sorted(unet), {}
    for i, part in enumerate((names[:300], names[300:])):
        file = f"diffusion_pytorch_model-0000{i + 1}-of-00002.safetensors"
        save_file({name: unet[name] for name in part}, source / "unet" / file, {"format": "pt"})
        shards |= dict.fromkeys(part, file)
    index = source / "unet" / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": shards}))
    done = run("edit", manifest, source, "-o", tmp_path / "out", "--json")
    assert done.code == 0, done.err
    assert len(json.loads(done.out)["changed"]) == 64
    assert run("edit", manifest, picturebook_folder, "-o", tmp_path / "plain").code == 0
    wanted = load_file(tmp_path / "plain" / "unet" / "diffusion_pytorch_model.safetensors")
    found = {n: t for f in set(shards.values()) for n, t in load_file(tmp_path / "out" / "unet" / f).items()}
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    half = load_file(tmp_path / "out" / "unet" / "diffusion_pytorch_model.fp16.safetensors")
    assert len(changes(halves, half)) == 32
    assert all((half[n].float() - wanted[n]).abs().max() < 2e-2 for n in wanted)


def test_an_index_is_not_believed(run: Run, manifest: Path, picturebook_folder: Path, tmp_path: Path) -> None:
    """What counts is which files lie in the folder; a path that leads out of it is never opened."""
    source = shutil.copytree(picturebook_folder, tmp_path / "model")
    secret = tmp_path / "secret.safetensors"
    secret.write_bytes(b"not to be read")
    index = source / "unet" / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {m.names[1]: "../../secret.safetensors" for m in layouts.SD1.matrices}}))
    assert run("edit", manifest, source, "-o", tmp_path / "out").code == 0
    assert secret.read_bytes() == b"not to be read"


@pytest.mark.parametrize("channels", [8, 9])
def test_models_with_an_image_beside_the_text_are_edited_and_not_drawn(
    channels: int, run: Run, manifest: Path, small: Path, tmp_path: Path
) -> None:
    first = {"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(32, channels, 3, 3)}
    save_file({**load_file(small), **first}, tmp_path / "inpaint.safetensors")
    assert run("edit", manifest, tmp_path / "inpaint.safetensors", "-o", tmp_path / "out").code == 0
    done = run("verify", manifest, tmp_path / "inpaint.safetensors", "-o", tmp_path / "report")
    assert done.code == 2 and f"takes {channels} channels" in done.err and not (tmp_path / "report").exists()


def test_in_place(run: Run, manifest: Path, small: Path, tmp_path: Path) -> None:
    model = shutil.copy(small, tmp_path / "a model é.safetensors")
    assert run("edit", manifest, small, "-o", tmp_path / "out", "--hash").code == 0
    assert run("edit", manifest, model, "-o", model).code == 2, "only when asked for"
    both = run("edit", manifest, model, "--in-place", "-o", tmp_path / "x")
    assert both.code == 2 and "choose one" in both.err
    assert run("edit", manifest, model, "--in-place").code == 0
    before, after = load_file(tmp_path / "out"), load_file(model)
    assert changes(before, after) == set()
    again = run("edit", manifest, model, "--in-place")
    assert again.code == 2 and "already carries a timecli edit" in again.err


def test_a_folder_in_place(run: Run, manifest: Path, picturebook_folder: Path, tmp_path: Path) -> None:
    model = shutil.copytree(picturebook_folder, tmp_path / "model")
    assert run("edit", manifest, model, "--in-place").code == 0
    assert len(open_checkpoint(model).edits) == 1 and (model / "vae").is_dir()
    assert {path.name for path in tmp_path.iterdir()} == {"model", "blue.toml"}


def test_several_deltas_go_one_after_the_other_when_asked(
    run: Run, manifest: Path, small: Path, tmp_path: Path
) -> None:
    (tmp_path / "red.toml").write_text(SMALL.replace("blue", "red").replace("roses", "tulips"))
    for name in ("blue", "red"):
        assert run("edit", tmp_path / f"{name}.toml", small, "--delta", tmp_path / f"{name}.delta").code == 0
    deltas = (tmp_path / "blue.delta", tmp_path / "red.delta")
    refused = run("apply", *deltas, small, "-o", tmp_path / "out")
    assert refused.code == 2 and "compiled apart" in refused.err and not (tmp_path / "out").exists()
    assert run("apply", *deltas, small, "-o", tmp_path / "out", "--stack").code == 0
    assert run("apply", *deltas[::-1], small, "-o", tmp_path / "other", "--stack").code == 0
    assert run("apply", deltas[0], small, "-o", tmp_path / "one").code == 0
    assert run("apply", deltas[1], tmp_path / "one", "-o", tmp_path / "two", "--stack").code == 0
    out, other, two = (load_file(tmp_path / name) for name in ("out", "other", "two"))
    name = ldm(layouts.SD1.matrices[0])
    assert (out[name] - two[name]).norm() / two[name].norm() < 1e-6
    assert (out[name] - other[name]).norm() / two[name].norm() > 1e-6, "order matters"
    assert [entry["name"] for entry in open_checkpoint(tmp_path / "out").edits] == ["blue", "red"]


def test_a_file_that_grows_while_it_is_read_is_refused(small: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(small, tmp_path / "x.safetensors"))
    checkpoint = open_checkpoint(path)
    list(checkpoint.projections())  # the control
    with path.open("ab") as file:
        file.write(b"\0")
    with pytest.raises(CheckpointError, match="changed while it was read"):
        list(checkpoint.projections())


def test_links_are_followed(run: Run, manifest: Path, small: Path, tmp_path: Path) -> None:
    """As in a cache of a model hub: the result is a file of its own, the original stays."""
    (tmp_path / "link.safetensors").symlink_to(small)
    before = small.read_bytes()
    assert run("edit", manifest, tmp_path / "link.safetensors", "-o", tmp_path / "out").code == 0
    assert not (tmp_path / "out").is_symlink() and small.read_bytes() == before


def test_paths_may_have_spaces_and_any_letters(run: Run, manifest: Path, small: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mein Ordner für 模型"
    folder.mkdir()
    shutil.copy(small, folder / "ein Modell é.safetensors")
    shutil.copy(manifest, folder / "rosen ü.toml")
    output = folder / "blaue Rosen 🌹.safetensors"
    done = run("edit", folder / "rosen ü.toml", folder / "ein Modell é.safetensors", "-o", output, "--json")
    assert done.code == 0 and json.loads(done.out)["written"] == [str(output)]
    assert run("inspect", output).code == 0 and len(load_file(output)) == len(load_file(small))


def test_a_delta_fits_every_model_with_the_same_text_encoder(
    run: Run, manifest: Path, small: Path, tmp_path: Path
) -> None:
    """Another UNet, the same text: what was compiled for one model is what is compiled for the other.

    Where the everyday world is preserved, factors are measured with a model's own maps, and the rest of D is the same.
    """
    task = manifest.read_text()
    factors = {}
    other = {name: t + 0.1 * torch.randn_like(t) if "attn2" in name else t for name, t in load_file(small).items()}
    save_file(other, tmp_path / "other.safetensors")
    for model in (small, tmp_path / "other.safetensors"):
        assert run("edit", manifest, model, "--delta", tmp_path / "world.delta", "--force").code == 0
        found = load_delta(tmp_path / "world.delta")
        factors[model] = found.operator.left.double() @ found.operator.right.double() / found.origin.factors[0]
    one, two = factors.values()
    assert (one - two).norm() < 1e-4 * one.norm()
    manifest.write_text(f"{task}[preserve]\neveryday = false\n")
    assert run("edit", manifest, small, "--delta", tmp_path / "x.delta").code == 0
    assert run("apply", tmp_path / "x.delta", tmp_path / "other.safetensors", "-o", tmp_path / "a").code == 0
    assert run("edit", manifest, tmp_path / "other.safetensors", "-o", tmp_path / "b").code == 0
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert run("edit", manifest, small, "-o", tmp_path / "c").code == 0
    assert (tmp_path / "c").read_bytes() != (tmp_path / "b").read_bytes(), "the control"
