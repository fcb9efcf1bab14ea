"""Text encoders in fp8 with factors are read as fp8 times the factor; whatever needs more is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from timecli.editing.delta import load_delta
from timecli.errors import CheckpointError
from timecli.files.quantised import numbers
from timecli.models import layouts
from timecli.models.checkpoint import open_checkpoint
from timecli.text.encoding import read_text_encoder
from timecli.text.readers import TextEncoder

from . import small
from .conftest import Run, small_tensors
from .scaling import E4M3, FORMS, is_scaled, scaled
from .test_transformers import CPU, DESTINATION, SOURCE, manifest

__all__ = ["manifest"]  # the fixture
TEXTS = {"flux": ("text_encoder", "text_encoder_2"), "qwen-image": ("text_encoder",)}
"""CLIP and T5, and Qwen2.5-VL."""
K = "encoder.block.0.layer.0.SelfAttention.k"
Tensors = dict[str, torch.Tensor]


@pytest.fixture(scope="module", params=TEXTS)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = small.saved(request.param, tmp_path_factory.mktemp(request.param) / "model")
    save_file(small.single(request.param, folder), folder.parent / "net.safetensors")
    return folder


@pytest.fixture(scope="module")
def flux(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = small.saved("flux", tmp_path_factory.mktemp("flux") / "model")
    save_file(small.single("flux", folder), folder.parent / "net.safetensors")
    return folder


def read(model: Path, texts: dict[str, Tensors], at: Path, comfyui: bool = False) -> TextEncoder:
    """The text encoders of a network, from files of their own."""
    paths = [at / f"{name}.safetensors" for name in texts]
    for path, tensors in zip(paths, texts.values(), strict=True):
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    checkpoint = open_checkpoint(model.parent / "net.safetensors", model, paths)
    return read_text_encoder(checkpoint, None, CPU, comfyui=comfyui)


def off(one: TextEncoder, other: TextEncoder) -> float:
    """How far states are from another's, over every stream of two prompts: the largest distance by its size."""
    prompts = [SOURCE, DESTINATION]
    pairs = [
        (a[stream], b[stream]) for a, b in zip(one.encode(prompts), other.encode(prompts), strict=True) for stream in b
    ]
    return max(float((a.double() - b.double()).norm() / b.double().norm()) for a, b in pairs)


@pytest.mark.parametrize("form", FORMS)
def test_states_are_those_of_fp8_times_its_factor(form: str, model: Path, tmp_path: Path) -> None:
    texts = small.text_encoders(model)
    both = {name: scaled(tensors, form) for name, tensors in texts.items()}
    stored, exact = ({name: pair[i] for name, pair in both.items()} for i in (0, 1))
    for name in stored:  # what sees pictures is in the released file, too
        eyes = {"visual.x.weight": torch.ones(4, 4).to(E4M3), "visual.x.scale_weight": torch.ones(3)}
        stored[name] |= eyes if "qwen" in model.parent.name else {}
    found, wanted = read(model, stored, tmp_path), read(model, exact, tmp_path)
    assert off(found, wanted) < 1e-6
    assert found.fingerprint == wanted.fingerprint, "of the numbers that are read"
    without = {name: {key: t for key, t in tensors.items() if "scale" not in key} for name, tensors in stored.items()}
    raw = read(model, without, tmp_path)
    assert off(raw, wanted) > 0.1 and raw.fingerprint != found.fingerprint, "the control"
    assert read(model, texts, tmp_path).fingerprint != found.fingerprint, "not that of what was rounded to fp8"


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16, E4M3], ids=str)
def test_the_product_is_rounded_to_the_dtype_of_all_else(kind: torch.dtype, flux: Path, tmp_path: Path) -> None:
    """In released files that is bf16 or fp16, of which memory has room; bf16 where all else is fp8, too."""
    texts = small.text_encoders(flux)
    both = {name: scaled(tensors) for name, tensors in texts.items()}
    rest = {
        name: {key: t if is_scaled(key, t) or "scale" in key else t.to(kind) for key, t in stored.items()}
        for name, (stored, _) in both.items()
    }
    wide = torch.bfloat16 if kind == E4M3 else kind
    rounded = {
        name: {key: (t if is_scaled(key, t) else t.to(kind)).to(wide) for key, t in exact.items()}
        for name, (_, exact) in both.items()
    }
    plain = {name: {key: t.to(wide) for key, t in stored.items()} for name, stored in texts.items()}
    found, wanted = read(flux, rest, tmp_path), read(flux, rounded, tmp_path)
    for one, other in zip(found.encode([SOURCE]), wanted.encode([SOURCE]), strict=True):
        assert all(torch.equal(one[stream], other[stream]) and one[stream].dtype == wide for stream in other)
    assert off(read(flux, plain, tmp_path), wanted) > 1e-3, "the control"
    path = tmp_path / "text_encoder_2.safetensors"
    save_file(rest["text_encoder_2"], path)
    sized = open_checkpoint(flux.parent / "net.safetensors", flux, [path]).encoders[1]
    assert sized.size == 2 * sum(t.numel() for t in texts["text_encoder_2"].values()), "two bytes for a number"


def test_clip_in_a_file_of_stable_diffusion_is_read(run: Run, tmp_path: Path) -> None:
    tensors, prefix = small_tensors(), layouts.SD1.towers[0].prefixes[0]
    text = {name: tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    net = {name: tensor for name, tensor in tensors.items() if name not in text}
    for form in FORMS:
        stored, exact = scaled(text, form, prefix.removesuffix("text_model."))
        states = []
        for part in (stored, exact, text, {key: t for key, t in stored.items() if "scale" not in key}):
            save_file({**net, **part}, tmp_path / "m.safetensors")
            encoder = read_text_encoder(open_checkpoint(tmp_path / "m.safetensors"), None, CPU)
            states.append((encoder.embed([SOURCE])[0], encoder.fingerprint))
        (one, two, *others), stamps = zip(*states, strict=True)
        assert (one - two).norm() < 1e-6 * two.norm() and stamps[0] == stamps[1]
        assert all((other - two).norm() > 1e-3 * two.norm() for other in others), "the control"
        assert stamps[0] not in stamps[2:]
    (tmp_path / "m.toml").write_text(
        f'name = "x"\n[preserve]\neveryday = false\n[[edit]]\nsource = "{SOURCE}"\ndestination = "{DESTINATION}"\n'
    )
    save_file({**net, **stored}, tmp_path / "m.safetensors")
    done = run("edit", tmp_path / "m.toml", tmp_path / "m.safetensors", "-o", tmp_path / "out", "--dtype", "fp16")
    assert done.code == 0, done.err
    after = load_file(tmp_path / "out")
    for name in stored.keys() - text.keys() | {key for key, t in text.items() if is_scaled(key, t)}:
        assert after[name].dtype == stored[name].dtype, "the text encoder is written as it was"
        assert torch.equal(after[name].float(), stored[name].float())


def test_an_edit_is_that_of_the_numbers(model: Path, run: Run, manifest: Path, tmp_path: Path) -> None:
    found = []
    for i in (0, 1):
        paths = []
        for name, tensors in small.text_encoders(model).items():
            paths += ["--text-encoder", tmp_path / f"{name}-{i}.safetensors"]
            save_file(scaled(tensors)[i], paths[-1])
        options = ("--config", model, *paths, "--delta", tmp_path / f"d{i}", "--no-cache")
        done = run("edit", manifest, model.parent / "net.safetensors", *options)
        assert done.code == 0, done.err
        found.append(load_delta(tmp_path / f"d{i}"))
    for stream, one in found[0].operators.items():
        two = found[1].operators[stream]
        a, b = one.left.double() @ one.right.double(), two.left.double() @ two.right.double()
        assert (a - b).norm() < 1e-4 * b.norm() and b.norm() > 0
    assert found[0].origin.encoder == found[1].origin.encoder


def test_a_factor_in_another_shard_is_found(flux: Path, tmp_path: Path) -> None:
    stored, exact = scaled(small.text_encoders(flux)["text_encoder_2"])
    folder = tmp_path / "t5"
    folder.mkdir()
    factors = {name: tensor for name, tensor in stored.items() if name.endswith("scale_weight")}
    shards = [{name: t for name, t in stored.items() if name not in factors}, factors]
    names = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    for name, shard in zip(names, shards, strict=True):
        save_file(shard, folder / name)
    places = {key: name for name, shard in zip(names, shards, strict=True) for key in shard}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    checkpoint = open_checkpoint(flux.parent / "net.safetensors", flux, [folder])
    found = dict(numbers(checkpoint.encoders[1].read()))
    assert all(torch.equal(found[name], tensor) for name, tensor in exact.items())


def refusal(flux: Path, at: Path, *changes: Tensors) -> str:
    """What is said of T5 with some tensors in place of its own."""
    stored, _ = scaled(small.text_encoders(flux)["text_encoder_2"])
    for change in changes:
        stored |= change
    with pytest.raises(CheckpointError) as found:
        read(flux, {"text_encoder_2": stored}, at)
    assert "\n" not in str(found.value)
    return str(found.value)


@pytest.mark.parametrize("shape", [(2,), (1, 16), (16, 2), (0,), (4, 4), (1, 2)], ids=str)
def test_a_factor_of_another_shape_is_refused(shape: tuple[int, ...], flux: Path, tmp_path: Path) -> None:
    said = refusal(flux, tmp_path, {f"{K}.scale_weight": torch.ones(shape)})
    assert f"{K}.scale_weight has the shape {list(shape)}, and a factor of {K}.weight, [16, 16]" in said
    assert "one number or one for each row; give its text encoder in fp16, bf16 or fp8 with --text-encoder" in said


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_factor_that_is_no_number_is_refused(number: float, flux: Path, tmp_path: Path) -> None:
    said = refusal(flux, tmp_path, {f"{K}.scale_weight": torch.tensor(number)})
    assert f"{K}.scale_weight holds NaN or infinite values" in said


MORE = {
    # forms that need more than a factor of fp8: what stands in the place of a weight of T5
    "nvfp4": {
        "weight": torch.ones(16, 8).byte(), "weight_scale": torch.ones(16, 1).to(E4M3),
        "weight_scale_2": torch.tensor(0.5), "comfy_quant": torch.ones(9).byte(),
    },
    "mxfp8": {"weight": torch.ones(16, 16).to(E4M3), "weight_scale": torch.ones(16, 1).byte()},
    "two factors": {"weight": torch.ones(16, 16).to(E4M3), "weight_scale_2": torch.tensor(2.0)},
    "inverse": {"weight": torch.ones(16, 16).to(E4M3), "weight_scale_inv": torch.tensor(2.0)},
    "int8": {"weight": torch.ones(16, 16).to(torch.int8), "weight_scale": torch.ones(16, 1)},
    "fp16": {"weight": torch.ones(16, 16).half(), "weight_scale": torch.tensor(2.0)},
}  # fmt: skip


@pytest.mark.parametrize("form", MORE)
def test_what_needs_more_than_a_factor_is_refused(form: str, flux: Path, tmp_path: Path) -> None:
    said = refusal(flux, tmp_path, {f"{K}.{part}": tensor for part, tensor in MORE[form].items()})
    assert re.search(rf"{K}.weight is (U8|I8|quantised, with its factor in {K}\.\w*scale\w*);", said), said
    assert "give its text encoder in fp16, bf16 or" in said and "with --text-encoder" in said


def test_clip_s_projection_is_scaled_where_the_vector_goes_through_it(tmp_path: Path) -> None:
    """SD 3's does; beside ComfyUI that of CLIP-L is the identity, whatever stands in the file."""
    folder = small.saved("sd3", tmp_path / "model")
    save_file(small.single("sd3", folder), tmp_path / "net.safetensors")
    both = {name: scaled(tensors) for name, tensors in small.text_encoders(folder).items()}
    assert all("text_projection.scale_weight" in both[name][0] for name in ("text_encoder", "text_encoder_2"))
    for comfyui in (False, True):
        found, wanted = (
            read(folder, {name: pair[i] for name, pair in both.items()}, tmp_path, comfyui) for i in (0, 1)
        )
        assert off(found, wanted) < 1e-6 and found.fingerprint == wanted.fingerprint
