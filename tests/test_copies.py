"""A folder can hold a UNet many times over: whatever a loader picks is edited, or named and left out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import load_file, save_file

from timecli.editing.delta import load_delta
from timecli.editing.solve import apply
from timecli.errors import CheckpointError
from timecli.models import layouts, streams
from timecli.models.checkpoint import open_checkpoint
from timecli.models.variants import groups

from .conftest import Run

SMALL = 'name = "blue"\n[[edit]]\nsource = "A pack of roses"\ndestination = "A pack of blue roses"\n'
PLAIN = "diffusion_pytorch_model.safetensors"
MATRICES = [matrix.names[streams.DIFFUSERS] for matrix in layouts.SD1.matrices]
Weights = dict[str, torch.Tensor]


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    (tmp_path / "blue.toml").write_text(SMALL)
    return tmp_path / "blue.toml"


@pytest.fixture
def model(picturebook_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(picturebook_folder, tmp_path / "model"))


@pytest.fixture
def unet(picturebook_folder: Path) -> Weights:
    return load_file(picturebook_folder / "unet" / PLAIN)


def other(weights: Weights, scale: float) -> Weights:
    """A copy with weights of its own, so that it cannot be mistaken for another copy."""
    return {name: tensor * scale for name, tensor in weights.items()}


def put(weights: Weights, path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, path, {"format": "pt"})


def put_shards(weights: Weights, folder: Path, index: str, shard: str) -> None:
    """Two shards and the index that names them; `shard` has {} for the number."""
    names = sorted(weights)
    parts = {shard.format(1): names[: len(names) // 2], shard.format(2): names[len(names) // 2 :]}
    for file, some in parts.items():
        put({name: weights[name] for name in some}, folder / file)
    where = {name: file for file, some in parts.items() for name in some}
    (folder / index).write_text(json.dumps({"metadata": {"total_size": 0}, "weight_map": where}))


@pytest.fixture
def wanted(run: Run, manifest: Path, picturebook_folder: Path, tmp_path: Path) -> Callable[[Weights], Weights]:
    """What the edit makes of some weights, by the operator alone."""
    assert run("edit", manifest, picturebook_folder, "--delta", tmp_path / "x.delta").code == 0
    operator = load_delta(tmp_path / "x.delta").operator
    return lambda weights: {name: apply(weights[name], operator) for name in MATRICES}


def distance(one: Weights, two: Weights) -> float:
    return max(float((one[n].float() - two[n].float()).norm() / two[n].float().norm()) for n in MATRICES)


def loaded(folder: Path, variant: str | None = None, subfolder: str = "unet") -> Weights:
    """The matrices as diffusers loads them."""
    unet = UNet2DConditionModel.from_pretrained(
        folder, subfolder=subfolder, variant=variant, local_files_only=True, torch_dtype=torch.float32
    )
    state = unet.state_dict()
    return {name: state[name] for name in MATRICES}


OLDER = (
    "diffusion_pytorch_model.safetensors.fp16.index.json",
    "diffusion_pytorch_model-0000{}-of-00002.fp16.safetensors",
)
NEWER = (
    "diffusion_pytorch_model.safetensors.index.fp16.json",
    "diffusion_pytorch_model.fp16-0000{}-of-00002.safetensors",
)
MIXED = (NEWER[0], OLDER[1])


@pytest.mark.parametrize("naming", [OLDER, NEWER, MIXED], ids=["older", "newer", "mixed"])
def test_whatever_variant_diffusers_loads_is_edited_from_its_own_weights(
    naming: tuple[str, str], run: Run, manifest: Path, model: Path, unet: Weights, wanted: Callable[..., Weights],
    tmp_path: Path,
) -> None:  # fmt: skip
    """A whole plain file, a whole variant, and shards of another variant lie side by side."""
    put(other(unet, 0.9), model / "unet" / "diffusion_pytorch_model.non_ema.safetensors")
    put_shards(other(unet, 0.8), model / "unet", *naming)
    done = run("edit", manifest, model, "-o", tmp_path / "out", "--json")
    assert done.code == 0 and len(json.loads(done.out)["changed"]) == 96, done.err
    for variant, scale in ((None, 1.0), ("non_ema", 0.9), ("fp16", 0.8)):
        before, after = loaded(model, variant), loaded(tmp_path / "out", variant)
        assert distance(before, other(unet, scale)) < 1e-6, "the control: diffusers reads what was put there"
        assert distance(after, wanted(other(unet, scale))) < 1e-5 and distance(after, before) > 0.05


@pytest.mark.parametrize("naming", [OLDER, NEWER, MIXED], ids=["older", "newer", "mixed"])
def test_a_variant_is_called_what_its_index_calls_it(naming: tuple[str, str], tmp_path: Path) -> None:
    """diffusers is asked for it by this name."""
    put_shards({"a": torch.ones(2), "b": torch.ones(2)}, tmp_path, *naming)
    put({"a": torch.ones(2)}, tmp_path / "diffusion_pytorch_model.bf16.safetensors")
    assert [(g.variant, g.stem, g.sharded) for g in groups(tmp_path)] == [
        ("bf16", "diffusion_pytorch_model", False),
        ("fp16", "diffusion_pytorch_model", True),
    ]


def test_a_whole_file_and_shards_of_the_same_variant_are_both_edited(
    run: Run, manifest: Path, model: Path, unet: Weights, wanted: Callable[..., Weights], tmp_path: Path
) -> None:
    """diffusers follows the index; a tool that reads the whole file finds the edit, too."""
    put_shards(
        other(unet, 0.8), model / "unet", f"{PLAIN}.index.json", "diffusion_pytorch_model-0000{}-of-00002.safetensors"
    )
    assert run("edit", manifest, model, "-o", tmp_path / "out").code == 0
    assert distance(loaded(tmp_path / "out"), wanted(other(unet, 0.8))) < 1e-5
    assert distance(load_file(tmp_path / "out" / "unet" / PLAIN), wanted(unet)) < 1e-5
    about = json.loads(run("inspect", tmp_path / "out", "--json").out)["copies"]
    assert [(one["variant"], one["form"], len(one["files"])) for one in about] == [
        ("plain", "2 shards", 2),
        ("plain", "whole", 1),
    ]


def test_shards_without_an_index_belong_together_by_their_names(
    run: Run, manifest: Path, model: Path, unet: Weights, wanted: Callable[..., Weights], tmp_path: Path
) -> None:
    put_shards(other(unet, 0.8), model / "unet", *OLDER)
    (model / "unet" / OLDER[0]).unlink()
    found = groups(model / "unet")
    assert [(g.variant, g.sharded, len(g.files)) for g in found] == [("", False, 1), ("fp16", True, 2)]
    assert run("edit", manifest, model, "-o", tmp_path / "out").code == 0
    shards = [load_file(tmp_path / "out" / "unet" / OLDER[1].format(i)) for i in (1, 2)]
    assert distance({**shards[0], **shards[1]}, wanted(other(unet, 0.8))) < 1e-5


def test_a_name_in_two_shards_of_one_group_is_refused(run: Run, manifest: Path, model: Path, unet: Weights) -> None:
    put_shards(unet, model / "unet", *OLDER)
    second = model / "unet" / OLDER[1].format(2)
    put({**load_file(second), MATRICES[0]: unet[MATRICES[0]]}, second)
    first = load_file(model / "unet" / OLDER[1].format(1))
    assert MATRICES[0] in first, "the control"
    done = run("edit", manifest, model, "-o", model.parent / "out")
    assert done.code == 2 and f"{MATRICES[0]} stands both in" in done.err and not (model.parent / "out").exists()


@pytest.mark.parametrize(
    ("index", "sentence"),
    [
        ('{"weight_map": {"a": "gone.safetensors"}}', "names gone.safetensors, which is missing"),
        ("not json", "is not an index of shards"),
        ('{"weight_map": []}', "is not an index of shards"),
        ('{"weight_map": {"a": 3}}', "is not an index of shards"),
        ("[" * 100_000, "is not an index of shards"),
    ],
)
def test_an_index_that_cannot_be_followed_is_refused(
    index: str, sentence: str, run: Run, manifest: Path, model: Path
) -> None:
    (model / "unet" / OLDER[0]).write_text(index)
    done = run("edit", manifest, model, "-o", model.parent / "out")
    assert done.code == 2 and sentence in done.err and done.err.count("\n") == 1


def test_moving_averages_in_a_folder_of_their_own(
    run: Run, manifest: Path, model: Path, unet: Weights, wanted: Callable[..., Weights], tmp_path: Path
) -> None:
    put(other(unet, 0.7), model / "unet_ema" / PLAIN)
    shutil.copy(model / "unet" / "config.json", model / "unet_ema")
    assert run("edit", manifest, model, "-o", tmp_path / "out").code == 0
    assert distance(loaded(tmp_path / "out", subfolder="unet_ema"), wanted(other(unet, 0.7))) < 1e-5
    assert run("edit", manifest, model, "-o", tmp_path / "left", "--leave-ema").code == 0
    assert distance(loaded(tmp_path / "left", subfolder="unet_ema"), other(unet, 0.7)) < 1e-6
    assert distance(loaded(tmp_path / "left"), wanted(unet)) < 1e-5


def test_a_single_file_beside_the_components_is_left_out_and_named(
    run: Run, manifest: Path, model: Path, picturebook: Path, tmp_path: Path
) -> None:
    """So is a UNet that training left in a folder of its own, and a pickle."""
    shutil.copy(picturebook, model / "whole.safetensors")
    (model / "checkpoint-500").mkdir()
    shutil.copytree(model / "unet", model / "checkpoint-500" / "unet")
    (model / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"\x80\x02}q\x00.")
    (model / "vae" / "diffusion_pytorch_model.bin").write_bytes(b"\x80\x02}q\x00.")
    (model / "notes.txt").write_text("mine")
    done = run("edit", manifest, model, "-o", tmp_path / "out")
    assert done.code == 0
    for name in ("whole.safetensors", "checkpoint-500/unet/" + PLAIN, "unet/diffusion_pytorch_model.bin"):
        assert str(model / name) in done.err and not (tmp_path / "out" / name).exists(), name
    for name in ("notes.txt", "vae/diffusion_pytorch_model.bin"):  # no UNet: it goes along
        assert (tmp_path / "out" / name).read_bytes() == (model / name).read_bytes()
    assert run("edit", manifest, model, "--in-place").code == 0
    assert load_file(model / "whole.safetensors").keys() == load_file(picturebook).keys()


def test_a_lora_or_a_damaged_file_elsewhere_is_no_obstacle(run: Run, manifest: Path, model: Path) -> None:
    put({"unet.x.lora_A.weight": torch.zeros(2, 2)}, model / "unet" / "pytorch_lora_weights.safetensors")
    (model / "extra").mkdir()
    (model / "extra" / "x.safetensors").write_bytes(b"damaged")
    (model / "unet" / "._diffusion_pytorch_model.safetensors").write_bytes(b"a Mac's shadow")
    done = run("edit", manifest, model, "-o", model.parent / "out")
    assert done.code == 0 and done.err == ""


def test_files_that_carry_different_edits_are_refused(
    run: Run, manifest: Path, model: Path, unet: Weights, tmp_path: Path
) -> None:
    put(unet, model / "unet" / "diffusion_pytorch_model.fp16.safetensors")
    assert run("edit", manifest, model, "-o", tmp_path / "out").code == 0
    assert len(open_checkpoint(tmp_path / "out").edits) == 1, "the control"
    shutil.copy(model / "unet" / PLAIN, tmp_path / "out" / "unet" / PLAIN)
    for command in (
        ("edit", manifest, tmp_path / "out", "-o", tmp_path / "b", "--stack"),
        ("inspect", tmp_path / "out"),
    ):
        done = run(*command)
        assert done.code == 2 and "carry different timecli edits" in done.err


def test_a_unet_folder_alone_and_a_folder_without_text_encoder(
    run: Run, manifest: Path, model: Path, unet: Weights, wanted: Callable[..., Weights], tmp_path: Path
) -> None:
    options = ("--text-encoder", model / "text_encoder")
    refused = run("edit", manifest, model / "unet", "-o", tmp_path / "no")
    assert refused.code == 2 and f"is one part of a model; give the whole folder, {model}." in refused.err
    assert run("edit", manifest, model / "unet", *options, "-o", tmp_path / "alone").code == 0
    alone = UNet2DConditionModel.from_pretrained(tmp_path / "alone", local_files_only=True).state_dict()
    assert distance(alone, wanted(unet)) < 1e-5
    bare = tmp_path / "bare"
    shutil.copytree(model / "unet", bare / "unet")
    refused = run("edit", manifest, bare / "unet", "-o", tmp_path / "no")
    assert refused.code == 2 and "has no text encoder" in refused.err and "--text-encoder" in refused.err
    assert run("edit", manifest, bare, *options, "-o", tmp_path / "out").code == 0
    assert distance(loaded(tmp_path / "out"), wanted(unet)) < 1e-5
    again = run("edit", manifest, bare, *options, "-o", tmp_path / "out", "--force")
    assert again.code == 0, again.err


def test_a_folder_that_is_no_model_is_named(model: Path, picturebook: Path, tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    shutil.copy(picturebook, tmp_path / "files" / "a.safetensors")
    with pytest.raises(CheckpointError, match="is a folder of files and not a model; give one file"):
        open_checkpoint(tmp_path / "files")
    (model / "unet").rename(model / "transformer")
    with pytest.raises(CheckpointError, match="network belongs into a folder unet"):
        open_checkpoint(model)


def test_the_pipeline_of_an_edited_folder_draws_otherwise(
    run: Run, manifest: Path, model: Path, tmp_path: Path
) -> None:
    assert run("edit", manifest, model, "-o", tmp_path / "out").code == 0
    pictures = []
    for folder in (model, tmp_path / "out"):
        pipeline = StableDiffusionPipeline.from_pretrained(folder, local_files_only=True, safety_checker=None)
        pipeline.set_progress_bar_config(disable=True)
        generator = torch.Generator().manual_seed(0)
        pictures.append(
            pipeline("A pack of roses", num_inference_steps=2, generator=generator, output_type="pt").images
        )
    assert (torch.as_tensor(pictures[0]) - torch.as_tensor(pictures[1])).abs().max() > 0.05
