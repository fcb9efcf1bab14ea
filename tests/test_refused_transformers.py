"""Diffusion transformers: what is missing, what is too large, and what is another kind of model, in one sentence."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import diffusers
import pytest
import torch
from safetensors.torch import load_file, save_file

from timecli.errors import CheckpointError
from timecli.models import layouts

from . import small
from .conftest import Run
from .test_answers import answered
from .test_towers import sparse
from .test_transformers import MANIFEST, manifest

__all__ = ["manifest"]  # the fixture
EVERYWHERE = MANIFEST.replace("augment = false", "augment = false\n{}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small.saved("flux", tmp_path_factory.mktemp("flux") / "model")


@pytest.fixture(scope="module")
def file(folder: Path) -> Path:
    """The network alone."""
    path = folder.parent / "flux.safetensors"
    save_file(small.single("flux", folder), path)
    return path


def without(folder: Path, target: Path, *names: str) -> Path:
    """A copy of a folder without some of its parts."""
    shutil.copytree(folder, target)
    for name in names:
        part = target / name
        shutil.rmtree(part) if part.is_dir() else part.unlink()
    return target


def test_what_is_missing_is_named_before_torch_is_loaded(
    folder: Path, file: Path, manifest: Path, tmp_path: Path
) -> None:
    empty = small.config_only(folder, tmp_path / "empty")
    clip, t5 = (folder / name / "model.safetensors" for name in ("text_encoder", "text_encoder_2"))
    odd = tmp_path / "odd.safetensors"
    save_file({"shared.weight": torch.zeros(4, 7)}, odd)
    given = ["edit", manifest, file]
    large = sparse(tmp_path / "large.safetensors", {"shared.weight": (2**28, 16), "more": (2**28, 2000)})
    cases = [
        (given, "text encoders need their configs and tokenizers"),
        ([*given, "--config", empty], "no text encoder CLIP ViT-L"),
        ([*given, "--config", empty, "--text-encoder", clip], "no text encoder T5-XXL"),
        ([*given, "--config", empty, "--text-encoder", t5], "no text encoder CLIP ViT-L"),
        ([*given, "--config", without(folder, tmp_path / "a", "tokenizer_2")], "tokenizer_2, of its text encoder T5"),
        (
            [*given, "--config", without(folder, tmp_path / "b", "text_encoder/config.json")],
            "text_encoder/config.json, of its text encoder CLIP",
        ),
        ([*given, "--config", folder, "--text-encoder", odd], "odd.safetensors is none of the text encoders"),
        ([*given, "--config", folder, "--text-encoder", large], "GB of memory to read prompts"),
    ]
    found = answered([command for command, _ in cases])
    assert [(code, heavy) for _, code, heavy in found] == [(2, [])] * len(cases)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda at: [], "as --config"),
        (lambda at: ["--config", small.config_only(at, at.parent / "empty")], "no text encoder CLIP ViT-L"),
    ],
    ids=["config", "weights"],
)
def test_sentences(
    change: Callable[[Path], list[object]], sentence: str, run: Run, folder: Path, file: Path, manifest: Path,
    tmp_path: Path,
) -> None:  # fmt: skip
    done = run("edit", manifest, file, *change(folder), "--delta", tmp_path / "d")
    assert done.code == 2 and sentence in done.err and done.err.count("\n") == 1 and not (tmp_path / "d").exists()


def test_a_text_encoder_that_does_not_fit_into_memory_is_refused(
    run: Run, folder: Path, file: Path, manifest: Path, tmp_path: Path
) -> None:
    large = sparse(tmp_path / "large.safetensors", {"shared.weight": (2**28, 16), "more": (2**28, 2000)})
    done = run("edit", manifest, file, "--config", folder, "--text-encoder", large, "--delta", tmp_path / "d")
    assert done.code == 2 and "T5-XXL 1082.3 GB" in done.err and "are available" in done.err
    assert done.err.count("\n") == 1
    small_one = sparse(tmp_path / "small.safetensors", {"shared.weight": (20, 16), "more": (2, 2)})
    done = run("edit", manifest, file, "--config", folder, "--text-encoder", small_one, "--delta", tmp_path / "d")
    assert "GB" not in done.err and "lacks encoder.block.0." in done.err and done.code == 2, "the control"


def test_a_text_encoder_with_a_tensor_missing_is_not_filled_with_random_numbers(
    run: Run, folder: Path, file: Path, manifest: Path, tmp_path: Path
) -> None:
    weights = small.text_encoders(folder)["text_encoder_2"]
    gone = "encoder.block.1.layer.0.SelfAttention.k.weight"
    save_file({name: tensor for name, tensor in weights.items() if name != gone}, tmp_path / "t5.safetensors")
    given = ("--config", folder, "--text-encoder", tmp_path / "t5.safetensors", "--delta", tmp_path / "d")
    done = run("edit", manifest, file, *given, "--no-cache")
    assert done.code == 2 and f"lacks {gone} of the text encoder T5-XXL" in done.err and done.err.count("\n") == 1
    save_file(weights, tmp_path / "t5.safetensors")
    assert run("edit", manifest, file, *given, "--no-cache").code == 0, "the control"


@pytest.mark.parametrize("scale", ["txt_in.scale_weight", "txt_in.weight_scale"])
def test_scaled_fp8_is_refused_where_it_is_edited(
    scale: str, run: Run, folder: Path, file: Path, manifest: Path, tmp_path: Path
) -> None:
    fp8 = {name: tensor.to(torch.float8_e4m3fn) for name, tensor in load_file(file).items()}
    mark = {"scaled_fp8": torch.zeros(2).to(torch.float8_e4m3fn)}
    given = ("--config", folder, "-o", tmp_path / "out", "--no-cache")
    save_file({**fp8, **mark, scale: torch.tensor(0.5)}, tmp_path / "m.safetensors")
    done = run("edit", manifest, tmp_path / "m.safetensors", *given)
    assert done.code == 2 and "txt_in.weight is quantised" in done.err and not (tmp_path / "out").exists()
    elsewhere = {"double_blocks.0.img_attn.qkv.scale_weight": torch.tensor(0.5)}
    save_file({**fp8, **mark, **elsewhere}, tmp_path / "m.safetensors")
    assert run("edit", manifest, tmp_path / "m.safetensors", *given).code == 0, "the control"


@pytest.mark.parametrize("solve", ['matrices = ["v"]', "layers = [0]"])
@pytest.mark.parametrize("command", ["edit", "plan", "verify"])
def test_some_keys_values_or_layers_are_no_edit_here(
    command: str, solve: str, run: Run, folder: Path, manifest: Path, tmp_path: Path
) -> None:
    manifest.write_text(EVERYWHERE.format(solve))
    output = [] if command == "plan" else ["-o", tmp_path / "out"]
    done = run(command, manifest, folder, *output, "--no-cache")
    assert done.code == 2 and "leave out solve.matrices and solve.layers" in done.err
    assert not (tmp_path / "out").exists()


def test_a_text_encoder_that_is_given_to_apply_is_not_ignored(
    run: Run, folder: Path, file: Path, manifest: Path, tmp_path: Path
) -> None:
    assert run("edit", manifest, folder, "--delta", tmp_path / "d", "--no-cache").code == 0
    save_file(small.text_encoders(folder)["text_encoder_2"], tmp_path / "t5.safetensors")
    apply = ("apply", tmp_path / "d", file, "-o", tmp_path / "out")
    done = run(*apply, "--text-encoder", tmp_path / "t5.safetensors")
    assert done.code == 2 and "as --config" in done.err and not (tmp_path / "out").exists()
    assert run(*apply).code == 0, "the control: without one, widths alone are compared"


def test_a_delta_of_another_width_is_refused(run: Run, folder: Path, manifest: Path, tmp_path: Path) -> None:
    other = small.saved("sd3", tmp_path / "sd3")
    assert run("edit", manifest, folder, "--delta", tmp_path / "d", "--no-cache").code == 0
    save_file(small.single("sd3", other), tmp_path / "sd3.safetensors")
    for command in ("apply", "export"):
        done = run(command, tmp_path / "d", tmp_path / "sd3.safetensors", "-o", tmp_path / "out")
        assert done.code == 2 and "has width 16" in done.err and "takes text of width 32" in done.err


KINDS = {
    # diffusers' network, and what people call it
    "WanTransformer3DModel": "a Wan model", "PixArtTransformer2DModel": "a PixArt model",
    "SanaTransformer2DModel": "a Sana model", "Lumina2Transformer2DModel": "a Lumina 2 model",
    "AuraFlowTransformer2DModel": "an AuraFlow model", "LTXVideoTransformer3DModel": "an LTX model",
    "HunyuanVideoTransformer3DModel": "a Hunyuan model", "HunyuanImageTransformer2DModel": "a Hunyuan model",
    "QwenImage21Transformer2DModel": "a Qwen-Image 2 model", "OvisImageTransformer2DModel": "an Ovis-Image model",
    "Flux3Transformer2DModel": "a FLUX.3 model", "Krea2Transformer2DModel": "a Krea 2 model",
    "Kandinsky5Transformer3DModel": "a Kandinsky model",
}  # fmt: skip
SINGLE = {
    # tensors of single files
    "double_stream_blocks.0.block.adaLN_modulation.1.weight": "a HiDream model", "head.modulation": "a Wan model",
    "y_embedder.y_proj.fc1.weight": "a PixArt model", "attention_y_norm.weight": "a Sana model",
    "layers.0.adaLN_modulation.1.weight": "a Lumina 2 model", "register_tokens": "an AuraFlow model",
    "patchify_proj.weight": "an LTX model", "txt_in.input_embedder.weight": "a Hunyuan model",
    "encoder_hid_proj.weight": "a Kolors model", "blocks.0.cross_attn.k_proj.weight": "a Cosmos or Anima model",
    "input_blocks.4.1.transformer_blocks.3.attn2.to_k.weight": "an SDXL refiner",
}  # fmt: skip


@pytest.mark.parametrize("kind", [kind for kind in KINDS if hasattr(diffusers, kind)])
def test_networks_of_diffusers_that_are_not_edited_are_told_by_name(kind: str) -> None:
    with torch.device("meta"):
        network = getattr(diffusers, kind)()
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    with pytest.raises(CheckpointError, match=f"x is {KINDS[kind]}, which has no edit"):
        layouts.find(shapes, "x")


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
@pytest.mark.parametrize("name", SINGLE)
def test_files_that_are_not_edited_are_told_by_name(name: str, prefix: str, run: Run, tmp_path: Path) -> None:
    save_file({prefix + name: torch.ones(2, 2)}, tmp_path / "m.safetensors")
    done = run("inspect", tmp_path / "m.safetensors")
    assert done.code == 2 and f"m.safetensors is {SINGLE[name]}" in done.err and done.err.count("\n") == 1


@pytest.mark.parametrize("family", list(small.FAMILIES))
def test_those_that_are_edited_are_not_taken_for_others(family: str, tmp_path: Path) -> None:
    """The control, in both spellings."""
    folder = small.saved(family, tmp_path / "model")
    files = {"single": small.single(family, folder)}
    files["folder"] = load_file(folder / "transformer" / "diffusion_pytorch_model.safetensors")
    found = {form: layouts.find({n: tuple(t.shape) for n, t in state.items()}, "x")[0] for form, state in files.items()}
    assert found["single"] is found["folder"]
