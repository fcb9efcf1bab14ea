"""Diffusion transformers: text enters by one map for each stream, and W (I + D) there is the whole edit."""

from __future__ import annotations

import json
from inspect import signature
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from safetensors.torch import load_file, save_file

from timecli.editing.delta import Delta, load_delta
from timecli.models.checkpoint import open_checkpoint
from timecli.models.streams import MASK, POOLED, TEXT
from timecli.text import encoding
from timecli.text.pipelines import PipelineEncoder

from . import small
from .conftest import EXACT, Run

CPU = torch.device("cpu")
SOURCE, DESTINATION = "A pack of roses", "A pack of blue roses"
PAIR = f'[[edit]]\nsource = "{SOURCE}"\ndestination = "{DESTINATION}"\n'
MANIFEST = f'name = "blue"\n[solve]\naugment = false\nlambda = 0.001\n[preserve]\neveryday = "list.txt"\n{PAIR}'
LIST = "A dog\nA painting of the snow\n"


@pytest.fixture(scope="module", params=list(small.FAMILIES))
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every family in turn, as a diffusers folder."""
    return small.saved(request.param, tmp_path_factory.mktemp(request.param) / "model")


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    (tmp_path / "list.txt").write_text(LIST)
    (tmp_path / "m.toml").write_text(MANIFEST)
    return tmp_path / "m.toml"


def read(model: Path) -> PipelineEncoder:
    found = encoding.read_text_encoder(open_checkpoint(model), None, CPU)
    assert isinstance(found, PipelineEncoder)
    return found


def opened(folder: Path) -> Any:
    pipeline = diffusers.DiffusionPipeline.from_pretrained(folder, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def test_text_is_what_the_pipeline_feeds_its_network(model: Path) -> None:
    """As the network's own map is given it, behind the norm where there is one."""
    encoder, pipeline = read(model), opened(model)
    family = encoder.family
    seen: dict[str, torch.Tensor] = {}
    for matrix in family.matrices:
        module = pipeline.transformer.get_submodule(matrix.names[1].removesuffix(".weight"))
        module.register_forward_pre_hook(lambda _, args, at=matrix.stream: seen.setdefault(at, args[0].detach()))
    drawn(pipeline, prompt=SOURCE)
    for reader in encoder.readers:
        found, given = reader.embed([SOURCE])[0], seen[reader.stream].reshape(-1, reader.width).double()
        assert (given[: len(found)] - found).norm() < 1e-5 * found.norm(), reader.stream
        assert (reader.embed([DESTINATION])[0][: len(found)] - found).norm() > 1e-2 * found.norm(), "the control"


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="only Linux tells what memory is of a file")
def test_weights_of_text_encoders_stay_in_their_files(model: Path) -> None:
    """So that encoders which memory does not hold side by side can be read from one after the other."""
    encoder = read(model)
    lines = [line.split() for line in Path("/proc/self/maps").read_text().splitlines() if line.endswith(".safetensors")]
    spans = [tuple(int(end, 16) for end in line[0].split("-")) for line in lines]

    def is_mapped(tensor: torch.Tensor) -> bool:
        return any(first <= tensor.data_ptr() < stop for first, stop in spans)

    for tower in encoder.family.towers:
        part = encoder.pipeline.components[tower.folder]
        seen = [tensor for name, tensor in part.named_parameters() if "visual" not in name and "vision" not in name]
        assert seen and all(map(is_mapped, seen)), tower.name
        assert not any(is_mapped(tensor.clone()) for tensor in seen), "the control"


def test_every_position_has_its_token(model: Path) -> None:
    encoder = read(model)
    states = encoder.embed([SOURCE, DESTINATION])
    tokens = [[t for segment in encoder.known[prompt] for t in segment.tokens] for prompt in (SOURCE, DESTINATION)]
    assert [len(part) for part in tokens] == [len(part) for part in states], "as many as states"
    aligned = encoder.alignment(SOURCE, DESTINATION)
    times = len(encoder.family.sequence)  # a template has some of the words in front
    own = [place for place in encoder.own(SOURCE) if tokens[0][place] in small.WORDS][-4 * times :]
    assert [tokens[0][place] for place in own] == times * ["a", "pack", "of", "roses"]
    assert [tokens[1][aligned[place]] for place in own] == [tokens[0][place] for place in own]
    assert "blue" in tokens[1] and "blue" not in tokens[0]
    assert len(aligned) == len(states[0]) and max(aligned) < len(states[1]) and min(aligned) >= 0


def drawn(pipeline: Any, **text: Any) -> torch.Tensor:
    """Latents after two steps from one start noise, without guidance."""
    asked = signature(pipeline.__call__).parameters
    scale = "true_cfg_scale" if "true_cfg_scale" in asked else "guidance_scale"
    made = pipeline(
        **text, **{scale: 0.0}, num_inference_steps=2, output_type="latent", height=32, width=32,
        generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    return made.images.double()


def shifted(states: torch.Tensor, delta: Delta, stream: str) -> torch.Tensor:
    return (states.double() + delta.operators[stream].shift(states)).to(states.dtype)


def oracle(pipeline: Any, encoder: PipelineEncoder, delta: Delta, streams: tuple[str, ...]) -> torch.Tensor:
    """What the unedited network draws of the text C + C Dᵀ."""
    result = text_of(pipeline)
    outputs = dict(encoder.family.outputs)
    states = result[outputs[TEXT]]
    whole = states[0]
    if encoder.norm is not None:
        epsilon = encoder.family.norm[1]
        whole = whole * torch.rsqrt(whole.square().mean(-1, keepdim=True) + epsilon) * encoder.norm
    text: dict[str, Any] = {"prompt_embeds": shifted(whole, delta, TEXT)[None] if TEXT in streams else whole[None]}
    if isinstance(states, list):
        text = {"prompt_embeds": list(text["prompt_embeds"])}
    if POOLED in outputs:
        vector = result[outputs[POOLED]]
        text["pooled_prompt_embeds"] = shifted(vector, delta, POOLED) if POOLED in streams else vector
    if MASK in outputs:
        text["prompt_attention_mask"] = result[outputs[MASK]]
    if encoder.norm is not None:  # the text is behind the norm
        parent, _, name = encoder.family.norm[0].removesuffix(".weight").rpartition(".")  # type: ignore[index]
        setattr(pipeline.transformer.get_submodule(parent), name, torch.nn.Identity())
    return drawn(pipeline, **text)


@torch.no_grad()
def text_of(pipeline: Any) -> Any:
    asked = signature(pipeline.encode_prompt).parameters
    options = {"prompt_2": None, "prompt_3": None, "do_classifier_free_guidance": False}
    return pipeline.encode_prompt(prompt=[SOURCE], **{k: v for k, v in options.items() if k in asked})


def test_an_edited_network_draws_what_the_unedited_one_draws_of_edited_text(
    run: Run, model: Path, manifest: Path, tmp_path: Path
) -> None:
    encoder = read(model)
    wrong = tmp_path / "wrong.toml"
    wrong.write_text(MANIFEST.replace("blue", "tall"))
    done = run("edit", manifest, model, "-o", tmp_path / "out", "--delta", tmp_path / "d", "--no-cache")
    assert done.code == 0, done.err
    assert run("edit", wrong, model, "--delta", tmp_path / "other", "--no-cache").code == 0
    wanted, before = drawn(opened(tmp_path / "out"), prompt=SOURCE), drawn(opened(model), prompt=SOURCE)

    def off(path: Path, streams: tuple[str, ...]) -> float:
        made = oracle(opened(model), encoder, load_delta(path), streams)
        return float((made - wanted).norm() / (before - wanted).norm())

    streams = encoder.family.streams
    assert set(load_delta(tmp_path / "d").operators) == set(streams)
    exact = off(tmp_path / "d", streams)
    assert exact < 1e-3
    assert off(tmp_path / "other", streams) > 0.1, "the control: another edit"
    for stream in streams if len(streams) > 1 else ():
        assert off(tmp_path / "d", (stream,)) > 30 * exact, "the control: one stream left out"


def test_a_delta_is_the_edit(run: Run, model: Path, manifest: Path, tmp_path: Path) -> None:
    done = run("edit", manifest, model, "-o", tmp_path / "one", "--delta", tmp_path / "d", "--no-cache")
    assert done.code == 0, done.err
    done = run("apply", tmp_path / "d", model, "-o", tmp_path / "two")
    assert done.code == 0, done.err
    name = "transformer/diffusion_pytorch_model.safetensors"
    assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    before, after = load_file(model / name), load_file(tmp_path / "one" / name)
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    assert changed == {matrix.names[1] for matrix in open_checkpoint(model).family.matrices}
    done = run("apply", "--undo", tmp_path / "d", tmp_path / "one", "-o", tmp_path / "back")
    assert done.code == 0, done.err
    back = load_file(tmp_path / "back" / name)
    for key in changed:
        assert (back[key] - before[key]).norm() < 1e-4 * (after[key] - before[key]).norm()


def test_a_stream_that_a_model_does_not_read_is_named(run: Run, manifest: Path, tmp_path: Path) -> None:
    """FLUX.1 and Chroma read the same text encoder; only the first is given a vector for the whole prompt, too."""
    flux, chroma = (small.saved(name, tmp_path / name) for name in ("flux", "chroma"))
    alone = tmp_path / "chroma.safetensors"
    save_file(small.single("chroma", chroma), alone)
    for model, said in ((flux, True), (chroma, False)):
        assert run("edit", manifest, model, "--delta", tmp_path / "d", "--no-cache", "--force").code == 0
        done = run("apply", tmp_path / "d", alone, "-o", tmp_path / "out", "--force")
        assert done.code == 0 and ("an operator for pooled text" in done.err) == said, done.err


def test_diffusers_fuses_an_adapter_to_the_edited_weights(
    run: Run, model: Path, manifest: Path, tmp_path: Path
) -> None:
    assert run("edit", manifest, model, "-o", tmp_path / "out", "--delta", tmp_path / "d", "--no-cache").code == 0
    done = run("export", tmp_path / "d", model, "--format", "peft", *EXACT, "-o", tmp_path / "lora.safetensors")
    assert done.code == 0, done.err
    name = "transformer/diffusion_pytorch_model.safetensors"
    before, after = load_file(model / name), load_file(tmp_path / "out" / name)
    pipeline = opened(model)
    pipeline.load_lora_weights(str(tmp_path), weight_name="lora.safetensors")
    pipeline.fuse_lora()
    pipeline.unload_lora_weights()
    for matrix in open_checkpoint(model).family.matrices:
        found = pipeline.transformer.get_parameter(matrix.names[1])
        assert (found - after[matrix.names[1]]).norm() < 1e-4 * (
            after[matrix.names[1]] - before[matrix.names[1]]
        ).norm()


def test_plan_and_inspect_know_the_family(run: Run, model: Path, manifest: Path) -> None:
    family = open_checkpoint(model).family
    about = json.loads(run("inspect", model, "--json").out)
    assert (about["architecture"], about["streams"]) == (family.name, list(family.streams))
    done = run("plan", manifest, model, "--json", "--no-cache")
    (source,) = [one for one in json.loads(done.out)["forecasts"] if one["kind"] == "source"]
    assert 0 < source["share"] < 2 and (source["pooled"] is None) == (POOLED not in family.streams)


def test_verify_draws_with_the_family_s_pipeline(run: Run, model: Path, manifest: Path, tmp_path: Path) -> None:
    done = run(
        "verify", manifest, model, "-o", tmp_path / "report", "--seeds", "1", "--steps", "1", "--no-cache",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert (tmp_path / "report" / "sheet.png").exists()


def test_an_edited_copy_is_verified_and_one_with_another_text_encoder_refused(
    run: Run, manifest: Path, tmp_path: Path
) -> None:
    model, out = small.saved("flux", tmp_path / "model"), tmp_path / "out"
    assert run("edit", manifest, model, "-o", out, "--no-cache").code == 0
    command = ("verify", manifest, model, out, "--seeds", "1", "--steps", "1", "--no-cache", "-o")
    done = run(*command, tmp_path / "report")
    assert done.code == 0, done.err
    file = out / "text_encoder_2" / "model.safetensors"
    save_file({name: tensor + 0.1 for name, tensor in load_file(file).items()}, file, {"format": "pt"})
    done = run(*command, tmp_path / "other")
    assert done.code == 2 and "another text encoder" in done.err
