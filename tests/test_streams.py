"""Streams: what a network is given of a prompt, each with an operator of its own.

The oracle needs no trained weights: a network with W (I + D) draws of C what the unedited one draws of C + C Dᵀ.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from safetensors.torch import load_file, save_file

from timecli import cli
from timecli.editing.delta import Delta, load_delta, save_delta
from timecli.models.checkpoint import open_checkpoint
from timecli.models.streams import POOLED, TEXT
from timecli.text import encoding, fingerprints, worlds

from . import small
from .conftest import Run
from .test_families import MANIFEST, PROMPTS, sdxl, sdxl_file

__all__ = ["sdxl", "sdxl_file"]  # the fixtures
CPU = torch.device("cpu")
SDXL = tuple[StableDiffusionXLPipeline, Path]
OTHER = MANIFEST.replace("blue", "tall")
PAIR = 'name = "x"\n[[edit]]\nsource = "A pack of roses"\ndestination = "A pack of blue roses"\n'


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    (tmp_path / "m.toml").write_text(MANIFEST)
    return tmp_path / "m.toml"


@pytest.mark.parametrize("form", ["folder", "file"])
def test_the_pooled_vector_is_diffusers_own(form: str, sdxl: SDXL, sdxl_file: Path) -> None:
    pipeline, folder = sdxl
    encoder = encoding.read_text_encoder(open_checkpoint(folder if form == "folder" else sdxl_file), None, CPU)
    with torch.no_grad():
        expected = pipeline.encode_prompt(PROMPTS, do_classifier_free_guidance=False)[2].double()
    text, pooled = encoder.readers
    found = torch.cat(list(pooled.embed(PROMPTS)))
    assert (text.stream, pooled.stream, pooled.width) == (TEXT, POOLED, 128)
    assert (found - expected).norm() < 1e-5 * expected.norm()
    assert (found.flip(0) - expected).norm() > 1e-2 * expected.norm(), "the control"


def drawn(pipeline: StableDiffusionXLPipeline, **text: Any) -> torch.Tensor:
    """Latents after two steps from one start noise."""
    generator = torch.Generator().manual_seed(0)
    made = pipeline(
        **text, num_inference_steps=2, guidance_scale=1.0, output_type="latent", generator=generator,
        height=64, width=64,
    )  # fmt: skip
    return made.images.double()


def shifted(states: torch.Tensor, delta: Delta, stream: str) -> torch.Tensor:
    return (states.double() + delta.operators[stream].shift(states)).float()


@pytest.fixture(scope="module")
def deltas(sdxl: SDXL, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The edit, and another one."""
    at = tmp_path_factory.mktemp("deltas")
    for name, text in (("d", MANIFEST), ("wrong", OTHER)):
        (at / f"{name}.toml").write_text(text)
        with pytest.raises(SystemExit) as stop:
            cli.main(["edit", str(at / f"{name}.toml"), str(sdxl[1]), "--delta", str(at / name)])
        assert not stop.value.code
    return at / "d", at / "wrong"


@pytest.mark.parametrize("form", ["folder", "delta"])
def test_an_edited_network_draws_what_the_unedited_one_draws_of_edited_text(
    form: str, run: Run, sdxl: SDXL, deltas: tuple[Path, Path], manifest: Path, tmp_path: Path
) -> None:
    (pipeline, folder), (own, wrong) = sdxl, deltas
    pipeline.set_progress_bar_config(disable=True)
    command = ("edit", manifest, folder) if form == "folder" else ("apply", own, folder)
    done = run(*command, "-o", tmp_path / "out")
    assert done.code == 0, done.err
    edited = StableDiffusionXLPipeline.from_pretrained(tmp_path / "out", local_files_only=True)
    edited.set_progress_bar_config(disable=True)
    prompt = "A pack of roses"
    wanted, before = drawn(edited, prompt=prompt), drawn(pipeline, prompt=prompt)
    with torch.no_grad():
        states, _, vector, _ = pipeline.encode_prompt(prompt, do_classifier_free_guidance=False)

    def off(delta: Delta, pooled: bool = True) -> float:
        text = {
            "prompt_embeds": shifted(states, delta, TEXT),
            "pooled_prompt_embeds": shifted(vector, delta, POOLED) if pooled else vector,
        }
        return float((drawn(pipeline, **text) - wanted).norm() / (before - wanted).norm())

    delta = load_delta(own)
    assert off(delta) < 1e-3
    assert off(load_delta(wrong)) > 0.1, "the control: another edit"
    assert off(delta, pooled=False) > 0.01, "the control: one stream left out"


def test_plan_forecasts_both_streams(run: Run, sdxl: SDXL, manifest: Path) -> None:
    done = run("plan", manifest, sdxl[1], "--json")
    (source,) = [one for one in json.loads(done.out)["forecasts"] if one["kind"] == "source"]
    assert 0.1 < source["share"] <= 1.2 and 0.1 < source["pooled"] <= 1.2
    assert "pooled vector" in run("plan", manifest, sdxl[1]).out


def test_a_delta_of_the_text_alone_is_applied_and_said_to_be_that(
    run: Run, sdxl: SDXL, manifest: Path, tmp_path: Path
) -> None:
    """Deltas without a pooled operator have the fingerprint of the text encoder without its projection."""
    folder = sdxl[1]
    assert run("edit", manifest, folder, "--delta", tmp_path / "d").code == 0
    whole = load_delta(tmp_path / "d")
    towers = open_checkpoint(folder).text_encoders()
    own, older = fingerprints.fingerprints(towers)
    assert whole.origin.encoder == own != older
    from dataclasses import replace

    save_delta(Delta({TEXT: whole.operator}, replace(whole.origin, encoder=older)), tmp_path / "text")
    done = run("apply", tmp_path / "text", folder, "-o", tmp_path / "out")
    assert done.code == 0 and "pooled" in done.err
    before = load_file(folder / "unet" / "diffusion_pytorch_model.safetensors")
    after = load_file(tmp_path / "out" / "unet" / "diffusion_pytorch_model.safetensors")
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert len(changed) == 140 and "add_embedding.linear_1.weight" not in changed
    save_delta(Delta({TEXT: whole.operator}, replace(whole.origin, encoder="0" * 64)), tmp_path / "strange")
    assert run("apply", tmp_path / "strange", folder, "-o", tmp_path / "x").code == 2, "the control"


def test_some_keys_values_or_layers_are_edited_without_the_pooled_vector(
    run: Run, sdxl: SDXL, manifest: Path, tmp_path: Path
) -> None:
    manifest.write_text(MANIFEST + '[solve]\nmatrices = ["v"]\n')
    assert run("edit", manifest, sdxl[1], "--delta", tmp_path / "d").code == 0
    assert set(load_delta(tmp_path / "d").operators) == {TEXT}


def test_undo_and_diff_know_both_streams(run: Run, sdxl: SDXL, manifest: Path, tmp_path: Path) -> None:
    folder, name = sdxl[1], "unet/diffusion_pytorch_model.safetensors"
    assert run("edit", manifest, folder, "-o", tmp_path / "out", "--delta", tmp_path / "d").code == 0
    before, after = load_file(folder / name), load_file(tmp_path / "out" / name)
    entry = "add_embedding.linear_1.weight"
    assert torch.equal(before[entry][:, 128:], after[entry][:, 128:]), "what is no text stays"
    assert not torch.equal(before[entry][:, :128], after[entry][:, :128])
    done = run("diff", folder, tmp_path / "out", "--delta", tmp_path / "found")
    assert done.code == 0, done.err
    found, made = load_delta(tmp_path / "found"), load_delta(tmp_path / "d")
    for stream, operator in made.operators.items():
        one, other = (part.left @ part.right for part in (operator, found.operators[stream]))
        # The one map of the vector has fewer rows than D unknowns: what it does is found, and no more.
        seen = torch.eye(len(one)) if stream == TEXT else before[entry][:, : len(one)]
        assert (seen @ (one - other)).norm() < 0.01 * (seen @ one).norm(), stream
    done = run("apply", "--undo", tmp_path / "d", tmp_path / "out", "-o", tmp_path / "back")
    assert done.code == 0, done.err
    back = load_file(tmp_path / "back" / name)
    assert (back[entry] - before[entry]).norm() < 1e-4 * (after[entry] - before[entry]).norm()


def test_a_text_encoder_without_its_projection_is_named(run: Run, sdxl: SDXL, manifest: Path, tmp_path: Path) -> None:
    import shutil

    folder = tmp_path / "model"
    shutil.copytree(sdxl[1], folder)
    weights = load_file(folder / "text_encoder_2" / "model.safetensors")
    del weights["text_projection.weight"]
    save_file(weights, folder / "text_encoder_2" / "model.safetensors", {"format": "pt"})
    done = run("edit", manifest, folder, "--delta", tmp_path / "d")
    assert done.code == 2 and "text_projection.weight" in done.err


def test_a_file_of_everyday_prompts_has_every_stream(run: Run, tmp_path: Path) -> None:
    """An edit with the file is the edit without it, byte for byte, and both streams are preserved."""
    model, listed = small.saved("flux", tmp_path / "model"), tmp_path / "list.txt"
    listed.write_text("A dog\nA painting of the snow\n")
    done = run("everyday", model, "--list", listed, "-o", tmp_path / "world")
    assert done.code == 0, done.err
    found = worlds.load(tmp_path / "world")
    assert {stream: root.shape[1] for stream, root in found.roots.items()} == {TEXT: 16, POOLED: 12}
    for reader in encoding.read_text_encoder(open_checkpoint(model), None, CPU).readers:
        rows, root = torch.cat(list(reader.embed(found.prompts))), found.roots[reader.stream]
        assert torch.allclose(root.T @ root, rows.T @ rows / 3, rtol=1e-9, atol=1e-9), reader.stream

    def compiled(kept: str, *options: object) -> Path:
        (tmp_path / "m.toml").write_text(f"{PAIR}[preserve]\neveryday = {kept}\n")
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.delta"
        done = run("edit", tmp_path / "m.toml", model, "--delta", path, "--no-cache", *options)
        assert done.code == 0, done.err
        return path

    given, own = compiled('"list.txt"', "--everyday", tmp_path / "world"), compiled('"list.txt"')
    assert given.read_bytes() == own.read_bytes()
    worlds.save(replace(found, roots={TEXT: found.roots[TEXT]}, ends={TEXT: found.ends[TEXT]}), tmp_path / "text")
    done = run("edit", tmp_path / "m.toml", model, "--delta", tmp_path / "d", "--everyday", tmp_path / "text")
    assert done.code == 2 and "lacks a stream of text" in done.err and not (tmp_path / "d").exists()
    alone = load_delta(compiled("false"))
    for stream, operator in load_delta(own).operators.items():
        assert abs(operator.norm - alone.operators[stream].norm) > 0.01 * operator.norm, "the control"
