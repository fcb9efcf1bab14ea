"""Diffusion transformers as user interfaces keep them: network and text encoders in files of their own, or all in one.

They are edited as the folder is, and nothing else in them changes.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from timecli import cli
from timecli.editing.delta import load_delta
from timecli.models import streams
from timecli.models.checkpoint import open_checkpoint
from timecli.text import encoding

from . import small
from .conftest import EXACT, Run
from .test_transformers import CPU, LIST, MANIFEST, SOURCE, manifest, opened

__all__ = ["manifest"]  # the fixture
UNET = "model.diffusion_model."
OPTIONS = ("--no-cache",)
Edited = tuple[dict[str, torch.Tensor], Path]


@pytest.fixture(scope="module", params=list(small.FAMILIES))
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def folder(family: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small.saved(family, tmp_path_factory.mktemp(family) / "model")


@pytest.fixture(scope="module")
def edited(folder: Path) -> Edited:
    """The network's tensors in the edited folder, and the edit's delta."""
    (folder.parent / "list.txt").write_text(LIST)
    (folder.parent / "m.toml").write_text(MANIFEST)
    out, delta = folder.parent / "edited", folder.parent / "d"
    with pytest.raises(SystemExit) as stop:
        cli.main([*map(str, ("edit", folder.parent / "m.toml", folder, "-o", out, "--delta", delta)), *OPTIONS])
    assert not stop.value.code
    return load_file(out / "transformer" / "diffusion_pytorch_model.safetensors"), delta


@pytest.fixture(scope="module")
def config(folder: Path) -> Path:
    """The folder without the weights of network and text encoders."""
    return small.config_only(folder, folder.parent / "empty")


def given(texts: dict[str, dict[str, torch.Tensor]], at: Path, dtype: torch.dtype | None = None) -> list[object]:
    """Text encoders in files of their own, the last first."""
    found: list[object] = []
    for name, state in reversed(texts.items()):
        path = at / f"{name}.safetensors"
        save_file({key: tensor if dtype is None else tensor.to(dtype) for key, tensor in state.items()}, path)
        found += ["--text-encoder", path]
    return found


def test_every_form_is_edited_as_the_folder(
    run: Run, family: str, folder: Path, config: Path, manifest: Path, edited: Edited, tmp_path: Path
) -> None:
    """The network alone with and without a prefix, and with everything in one file; the config beside it, or given."""
    wanted, delta = edited
    row, network, texts = open_checkpoint(folder).family, small.single(family, folder), small.text_encoders(folder)
    prefixes = {tower.folder: tower.prefixes[0] for tower in row.towers}
    whole = {f"{prefixes[part]}{name}": tensor for part, state in texts.items() for name, tensor in state.items()}
    (tmp_path / "beside").mkdir()
    shutil.copytree(config, tmp_path / "beside" / "config")
    for form, at, prefix, rest, options in (
        ("plain", tmp_path, "", {}, ["--config", config, *given(texts, tmp_path)]),
        ("prefix", tmp_path, UNET, {}, ["--config", folder]),
        ("whole", tmp_path / "beside", UNET, {**whole, "vae.decoder.conv_in.weight": torch.ones(2, 3, 3, 3)}, []),
    ):
        before = {f"{prefix}{name}": tensor for name, tensor in network.items()} | rest
        model, out = at / f"{form}.safetensors", tmp_path / f"{form}-out.safetensors"
        save_file(before, model, {"format": "pt"})
        done = run("edit", manifest, model, *options, "-o", out, "--delta", tmp_path / form, *OPTIONS)
        assert done.code == 0, done.err
        after = load_file(out)
        for matrix in row.matrices:
            theirs, ours = wanted[matrix.names[streams.DIFFUSERS]], after[prefix + matrix.names[streams.LDM]]
            assert torch.equal(theirs, ours), (form, matrix)
        changed = {name for name in before if not torch.equal(before[name], after[name])}
        assert changed == {prefix + matrix.names[streams.LDM] for matrix in row.matrices}
        one, other = load_delta(delta), load_delta(tmp_path / form)
        assert one.origin.encoder == other.origin.encoder, form
        again = ("apply", delta, model, "-o", tmp_path / "again.safetensors", "--force")
        done = run(*again, *options)
        assert done.code == 0 and "only the delta's width" not in done.err, done.err
        assert (tmp_path / "again.safetensors").read_bytes() == out.read_bytes()
        assert ("only the delta's width" in run(*again).err) == (form != "whole"), "its text encoder is not at hand"
        about = json.loads(run("inspect", out, "--json").out)
        assert about["architecture"] in (row.name, "FLUX.2 klein") and about["edits"][0]["name"] == "blue"


@pytest.mark.parametrize(
    ("texts", "prefixes"),
    [("cond_stage_model.", (UNET, "diffusion_model.", "model.", "transformer.")), ("", (UNET, "transformer."))],
)
def test_text_encoders_are_found_as_other_programs_save_them(
    texts: str, prefixes: tuple[str, ...], run: Run, family: str, folder: Path, config: Path, manifest: Path,
    edited: Edited, tmp_path: Path,
) -> None:  # fmt: skip
    """In the file of the network, as ComfyUI saves Chroma, or all in a file of their own; the network with a prefix."""
    row, network = open_checkpoint(folder).family, small.single(family, folder)
    inside = {tower.folder: tower.prefixes[0].replace("text_encoders.", texts) for tower in row.towers}
    words = {
        inside[part] + name: one for part, state in small.text_encoders(folder).items() for name, one in state.items()
    }
    wanted, _ = edited
    plain = load_file(folder / "transformer" / "diffusion_pytorch_model.safetensors")
    for prefix in prefixes:
        state, spelling = (plain, streams.DIFFUSERS) if prefix == "transformer." else (network, streams.LDM)
        file, options = {prefix + name: tensor for name, tensor in state.items()}, ["--config", config]
        if texts:
            file |= words
        else:
            save_file(words, tmp_path / "words.safetensors")
            options += ["--text-encoder", tmp_path / "words.safetensors"] * len(row.towers)
        save_file(file, tmp_path / "m.safetensors")
        done = run("edit", manifest, tmp_path / "m.safetensors", *options, "-o", tmp_path / "out", "--force", *OPTIONS)
        assert done.code == 0, (prefix, done.err)
        after = load_file(tmp_path / "out")
        for matrix in row.matrices:
            assert torch.equal(after[prefix + matrix.names[spelling]], wanted[matrix.names[streams.DIFFUSERS]]), prefix


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float8_e4m3fn], ids=str)
def test_text_encoders_in_other_dtypes_are_read(
    dtype: torch.dtype, run: Run, family: str, folder: Path, config: Path, manifest: Path, tmp_path: Path
) -> None:
    texts = small.text_encoders(folder)
    network = {name: tensor.to(dtype) for name, tensor in small.single(family, folder).items()}
    save_file(network, tmp_path / "m.safetensors")
    options = ["--config", config, *given(texts, tmp_path, dtype)]
    done = run("edit", manifest, tmp_path / "m.safetensors", *options, "-o", tmp_path / "out", *OPTIONS)
    assert done.code == 0, done.err
    after, row = load_file(tmp_path / "out"), open_checkpoint(folder).family
    changed = {name for name in network if not torch.equal(network[name].float(), after[name].float())}
    assert changed == {matrix.names[streams.LDM] for matrix in row.matrices}
    assert {tensor.dtype for tensor in after.values()} == {dtype}
    files = [path for path in options[3::2] if isinstance(path, Path)]
    exact, rough = (
        encoding.read_text_encoder(open_checkpoint(model, config=at, text_encoder=more), None, CPU).embed([SOURCE])[0]
        for model, at, more in ((folder, None, []), (tmp_path / "m.safetensors", config, files))
    )
    assert rough.isfinite().all() and rough.shape == exact.shape


DIFFUSERS_KEYS = {
    # what ComfyUI knows of diffusers' names of maps (comfy/utils.py: mmdit_to_diffusers, flux_to_diffusers)
    "sd3": {"context_embedder": "context_embedder", "time_text_embed.text_embedder.linear_1": "y_embedder.mlp.0"},
    "flux": {"context_embedder": "txt_in", "time_text_embed.text_embedder.linear_1": "vector_in.in_layer"},
    "chroma": {"context_embedder": "txt_in"},
}


def comfy_keys(family: str, network: dict[str, torch.Tensor]) -> dict[str, str]:
    """ComfyUI's rule for any model (comfy/lora.py, model_lora_keys_unet): a LoRA's key, and the weight that it is for.

    ComfyUI's own names of weights are those of single files behind `diffusion_model.`.
    """
    names = DIFFUSERS_KEYS.get(family, {}).items()
    found = {f"transformer.{theirs}": f"diffusion_model.{ours}.weight" for theirs, ours in names}
    for name in (f"diffusion_model.{name}" for name in network):
        if name.endswith(".weight"):
            module = name.removesuffix(".weight")
            found["lora_unet_" + module.removeprefix("diffusion_model.").replace(".", "_")] = name
            found[module] = name
    return found


@pytest.fixture
def lora(run: Run, folder: Path, edited: Edited, tmp_path: Path) -> Path:
    """The edit as a LoRA for user interfaces."""
    done = run("export", edited[1], folder, *EXACT, "-o", tmp_path / "lora.safetensors")
    assert done.code == 0, done.err
    return tmp_path / "lora.safetensors"


def test_comfyui_finds_every_map_of_a_lora(
    run: Run, edited: Edited, lora: Path, family: str, folder: Path, tmp_path: Path
) -> None:
    edit, delta = edited
    network, made = small.single(family, folder), load_file(lora)
    keys, row = comfy_keys(family, network), open_checkpoint(folder).family
    found = {}
    for key in {re.sub(r"\.(lora_.*\.weight|alpha)$", "", name) for name in made}:
        weight = network[keys[key].removeprefix("diffusion_model.")].double()
        parts = ("lora_up", "lora_down") if f"{key}.alpha" in made else ("lora_B", "lora_A")
        up, down = (made[f"{key}.{part}.weight"].double() for part in parts)
        scale = made[f"{key}.alpha"].double() / len(down) if f"{key}.alpha" in made else 1.0
        found[keys[key].removeprefix("diffusion_model.")] = weight + scale * up @ down
    assert found.keys() == {matrix.names[streams.LDM] for matrix in row.matrices}, "every map and nothing else"
    for matrix in row.matrices:
        wanted, before = edit[matrix.names[streams.DIFFUSERS]], network[matrix.names[streams.LDM]]
        assert (found[matrix.names[streams.LDM]] - wanted).norm() < 1e-4 * (wanted - before).norm()
    save_file(network, tmp_path / "m.safetensors")
    done = run("export", delta, tmp_path / "m.safetensors", *EXACT, "-o", tmp_path / "again.safetensors")
    assert done.code == 0 and "only the delta's width" in done.err, "its text encoder is not at hand"
    again = load_file(tmp_path / "again.safetensors")
    assert again.keys() == made.keys() and all(torch.equal(again[name], made[name]) for name in made)


def test_diffusers_loads_the_lora_of_user_interfaces_too(edited: Edited, lora: Path, family: str, folder: Path) -> None:
    pipeline, row = opened(folder), open_checkpoint(folder).family
    before = {name: tensor.clone() for name, tensor in pipeline.transformer.state_dict().items()}
    pipeline.load_lora_weights(str(lora.parent), weight_name=lora.name)
    pipeline.fuse_lora()
    pipeline.unload_lora_weights()
    for matrix in row.matrices:
        name = matrix.names[streams.DIFFUSERS]
        found, wanted = pipeline.transformer.state_dict()[name], edited[0][name]
        assert (found - wanted).norm() < 1e-4 * (wanted - before[name]).norm(), matrix


def test_verify_draws_from_single_files(
    run: Run, family: str, folder: Path, config: Path, manifest: Path, tmp_path: Path
) -> None:
    """With the text encoders that were given: the folder has none. diffusers has sizes of its own for other kinds."""
    if family not in ("qwen-image", "z-image"):
        pytest.skip("a single file of a small one is none that diffusers reads")
    save_file(small.single(family, folder), tmp_path / "m.safetensors")
    texts = given(small.text_encoders(folder), tmp_path)
    drawing = ("--seeds", 1, "--steps", 1, *OPTIONS)
    same = tmp_path / "folder" / "m.safetensors"  # the sheet names the model
    shutil.copytree(folder, same)
    for model, options, out in ((tmp_path / "m.safetensors", ["--config", config, *texts], "a"), (same, [], "b")):
        done = run("verify", manifest, model, *options, "-o", tmp_path / out, *drawing)
        assert done.code == 0, done.err
    one, other = (np.asarray(Image.open(tmp_path / name / "sheet.png")).astype(int) for name in "ab")
    assert np.abs(one - other).max() <= 2, "the last bits depend on where in memory a tensor begins"
    assert np.abs(one - other[::-1]).max() > 50, "the control"
