"""Run beside a checkout of ComfyUI, with a folder: the nodes on a MODEL whose weights are kept in other forms.

With the folder of the pack ComfyUI-GGUF behind it, on GGUF, too. Prints a JSON object.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import comfyui_small as small

# isort: split
import comfy.model_management
import comfy.supported_models as models
import scaling
import torch
from timecli_nodes import network

from timecli.editing.solve import apply

SIZES = {**small.FLUX, "vec_in_dim": 32, "context_in_dim": 32}
PREFIX = network.PREFIX
place, TEXT = Path(small.ARGUMENTS[0]), ("txt_in.weight", "vector_in.in_layer.weight")
MANIFEST = """
name = "blue"
[solve]
augment = false
[[edit]]
source = "a rose"
destination = "a blue rose"
[preserve]
everyday = "few.txt"
"""


def clip() -> Any:
    words = {"clip_l": {**small.CLIP, "hidden_size": 32}, "t5xxl": {**small.T5, "d_model": 32}}
    options = {f"{name}_model_config": one for name, one in words.items()}
    return small.text(models.Flux(dict(SIZES)), options)


def read(patcher: Any) -> dict[str, torch.Tensor]:
    """Its maps of the text, as they were loaded, in float32."""
    return {name: network.maps(patcher).weights[name] for name in TEXT}


def filled(values: dict[str, torch.Tensor]) -> Any:
    """The same network in float32, with these maps."""
    _, plain = small.model(models.Flux, SIZES)
    plain.model.diffusion_model.load_state_dict(values, strict=False)
    return plain


def edited(patcher: Any, delta: Any) -> dict[str, torch.Tensor]:
    return {
        name: apply(weight, delta.operators[stream])
        for (name, weight), stream in zip(read(patcher).items(), ("text", "pooled"), strict=True)
    }


def solved(patcher: Any, words: Any) -> tuple[Any, Any]:
    changed, delta = small.pack.EditAssumption().edit(patcher, words, str(place / "m.toml"), 1.0)
    return changed, delta


def apart(one: Any, other: Any) -> float:
    """How far the operators of two deltas are from each other."""
    pairs = [(one.operators[name], other.operators[name]) for name in other.operators]
    shifts = [(a.left @ a.right, b.left @ b.right) for a, b in pairs]
    return max(float((a - b).norm() / b.norm()) for a, b in shifts)


def loaded(tensors: dict[str, torch.Tensor]) -> Any:
    """A MODEL as ComfyUI loads a file with these tensors."""
    _, patcher = small.model(
        models.Flux, SIZES, torch.float32, scaled_fp8=torch.float8_e4m3fn, quant_config={"mixed_ops": True}
    )  # fmt: skip
    wrong = patcher.model.diffusion_model.load_state_dict(small.as_read(tensors), strict=False)
    assert all("scale" in name for name in (*wrong.missing_keys, *wrong.unexpected_keys)), wrong
    return patcher


def scaled_fp8() -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """The tensors of a file in fp8 with factors, and the numbers of its maps."""
    state = small.model(models.Flux, SIZES)[1].model.diffusion_model.state_dict()
    stored, exact = scaling.scaled({name: state[name] for name in TEXT})
    return {**state, **stored}, exact


def later(form: str) -> Callable[[], tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]]:
    """The same of a form that ComfyUI keeps in tensors of its own."""

    def made() -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        state, exact = small.model(models.Flux, SIZES)[1].model.diffusion_model.state_dict(), {}
        note = torch.tensor(list(json.dumps({"format": form}).encode()), dtype=torch.uint8)
        for name in TEXT:
            layout = QUANT_ALGOS[form]["comfy_tensor_layout"]
            packed = QuantizedTensor.from_float(state[name], layout, scale="recalculate")
            exact[name] = packed.dequantize()
            state |= packed.state_dict(name) | {f"{name.removesuffix('weight')}comfy_quant": note}
        return state, exact

    return made


FORMS: dict[str, Callable[[], tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]]] = {"scaled_fp8": scaled_fp8}
if importlib.util.find_spec("comfy.quant_ops") is not None:
    from comfy.quant_ops import QUANT_ALGOS, QuantizedTensor

    FORMS |= {form: later(form) for form in QUANT_ALGOS}


def stored(patcher: Any) -> dict[str, list[torch.Tensor]]:
    """The bytes that the maps are kept in, with their factors."""
    found = {}
    for name in TEXT:
        layer = patcher.model.get_submodule(f"{PREFIX}{name}".removesuffix(".weight"))
        parts = layer.weight.state_dict() if hasattr(layer.weight, "_qdata") else {"": layer.weight}
        found[name] = [part.clone().reshape(-1).view(torch.uint8) for part in parts.values()]
    return found


def same(one: dict[str, list[torch.Tensor]], other: dict[str, list[torch.Tensor]]) -> bool:
    return all(torch.equal(a, b) for name in one for a, b in zip(one[name], other[name], strict=True))


def put_on(patcher: Any) -> dict[str, list[torch.Tensor]]:
    """What ComfyUI makes of a patcher's weights, and takes back."""
    patcher.patch_model(device_to=small.CPU)
    found = stored(patcher)
    patcher.unpatch_model(device_to=small.CPU)
    return found


def used(changed: Any, wanted: Any, given: list[Any]) -> float:
    """How far the network is from one in float32 if it patches a weight when it is used, as where memory is short."""
    comfy.model_management.unload_all_models()
    (states, extras), latent = given[0], torch.linspace(-1, 1, 1024).view(1, 16, 8, 8)
    step = (latent, torch.tensor([0.5]), states, extras["pooled_output"])
    plain = changed.model.diffusion_model(*step)
    changed.load(small.CPU, lowvram_model_memory=1)
    made, exact = changed.model.diffusion_model(*step), wanted.model.diffusion_model(*step)
    changed.unpatch_model(small.CPU)
    return float((made - exact).norm() / (plain - exact).norm())


def quantised(words: Any, form: str) -> dict[str, Any]:
    """The node on weights of a form against ComfyUI itself, which is told what the edited numbers are."""
    tensors, exact = FORMS[form]()
    patcher, plain = loaded(tensors), filled(exact)
    before = stored(patcher)
    changed, delta = solved(patcher, words)
    wanted = {PREFIX + name: ("set", (weight,)) for name, weight in edited(patcher, delta).items()}
    told = patcher.clone()
    assert len(told.add_patches(wanted)) == len(TEXT)
    after = put_on(changed)
    texts = [small.conditioning(words, prompt) for prompt in ("a rose in the snow", "")]
    drawn, made = small.drawn(patcher, *texts), small.drawn(changed, *texts)
    rest = {name: tensor for name, tensor in tensors.items() if name in plain.model.diffusion_model.state_dict()}
    return {
        "used": used(changed, filled({**rest, **edited(patcher, delta)}), texts[0]),
        "rounded": same(after, put_on(told)),
        "restored": same(stored(patcher), before) and torch.equal(small.drawn(patcher, *texts), drawn),
        "solved": apart(delta, solved(plain, words)[1]),
        "moved": not same(after, before) and float((made - drawn).norm() / drawn.norm()),
    }


class Packed(torch.Tensor):
    """A weight of a layout that nobody has told ComfyUI of."""


def refused(words: Any) -> dict[str, list[str]]:
    """What both nodes say of weights that they do not know."""
    _, plain = small.model(models.Flux, SIZES)
    _, delta = solved(plain, words)
    weight = plain.model.diffusion_model.txt_in.weight.clone()
    halves = torch.zeros(len(weight), weight.shape[1] // 2, dtype=torch.uint8)
    forms = {
        "another class": weight.as_subclass(Packed),
        "two numbers in a byte": halves,
        "one column": halves.reshape(-1, 1),
        "one row": halves.reshape(-1),
        "whole numbers": weight.to(torch.int8),
        "a dtype without arithmetic": halves.view(torch.float8_e8m0fnu),
    }
    said: dict[str, list[str]] = {}
    for name, form in forms.items():
        _, patcher = small.model(models.Flux, SIZES)
        patcher.model.diffusion_model.txt_in.weight = torch.nn.Parameter(form, requires_grad=False)
        said[name] = []
        for ask in (lambda: solved(patcher, words), lambda: network.patched(patcher, delta, 1.0)):  # noqa: B023
            try:
                ask()
            except Exception as error:
                said[name].append(f"{type(error).__name__}: {error}")
    return said


def gguf(words: Any, folder: Path) -> dict[str, Any]:
    """Weights in Q8_0, read and drawn by the pack that people use for it."""
    spec = importlib.util.spec_from_file_location(
        "gguf_pack", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec and spec.loader
    package = sys.modules["gguf_pack"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(package)
    import gguf
    from gguf_pack import loader, nodes, ops  # type: ignore[import-not-found]

    _, source = small.model(models.Flux, SIZES)
    file = gguf.GGUFWriter(place / "flux.gguf", "flux")
    for name, tensor in source.model.diffusion_model.state_dict().items():
        packed = tensor.ndim == 2 and tensor.shape[1] % 32 == 0
        kind = gguf.GGMLQuantizationType.Q8_0 if packed else gguf.GGMLQuantizationType.F32
        file.add_tensor(name, gguf.quants.quantize(tensor.numpy(), kind), raw_dtype=kind)
    file.write_header_to_file()
    file.write_kv_data_to_file()
    file.write_tensors_to_file()
    file.close()
    _, patcher = small.model(models.Flux, SIZES, custom_operations=ops.GGMLOps())
    loaded = loader.gguf_sd_loader(str(place / "flux.gguf"))
    loaded = loaded[0] if isinstance(loaded, tuple) else loaded
    patcher.model.diffusion_model.load_state_dict(loaded, strict=False)
    patcher = nodes.GGUFModelPatcher.clone(patcher)
    plain = filled({name: ops.dequantize_tensor(tensor, torch.float32) for name, tensor in loaded.items()})
    texts = [small.conditioning(words, prompt) for prompt in ("a rose in the snow", "")]
    before = small.drawn(patcher, *texts)
    changed, delta = solved(patcher, words)
    other, wanted = solved(plain, words)
    made, same = small.drawn(changed, *texts), small.drawn(other, *texts)
    (place / "m.toml").write_text(MANIFEST.replace("blue", "tall"))
    changed.patch_model(device_to=small.CPU)
    third = [solved(one, words)[1] for one in (patcher, plain)]
    changed.unpatch_model(device_to=small.CPU)
    (place / "m.toml").write_text(MANIFEST)
    return {
        "solved": apart(delta, wanted),
        "picture": float((made - same).norm() / (same - small.drawn(plain, *texts)).norm()),
        "moved": float((made - before).norm() / before.norm()),
        "solved while patched": apart(*third),
        "unplugged": torch.equal(small.drawn(patcher, *texts), before),
    }


@torch.inference_mode()
def main() -> dict[str, Any]:
    (place / "few.txt").write_text("a dog\na dog in the snow\na tall tree\na red house\n")
    (place / "m.toml").write_text(MANIFEST)
    words = clip()
    found: dict[str, Any] = {"forms": {form: quantised(words, form) for form in FORMS}, "refused": refused(words)}
    if len(small.ARGUMENTS) > 1:
        found["gguf"] = gguf(words, Path(small.ARGUMENTS[1]))
    return found


print(json.dumps(main()))
