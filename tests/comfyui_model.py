"""Run beside a checkout of ComfyUI, with a family's name and a folder: the node on the MODEL against what it should be.

Prints a JSON object of distances, in lengths of the way that the edit goes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import comfyui_small as small

# isort: split
import comfy.float
import comfy.utils
import utils.install_util  # noqa: F401  before nodes, as main.py does

# isort: split
import nodes as own
import torch
from comfy.model_patcher import string_to_seed
from comfy.weight_adapter.lora import LoRAAdapter
from timecli_nodes import conditioning, network, solving, states

import timecli
from timecli.editing.solve import apply

family, place = small.ARGUMENTS[0], Path(small.ARGUMENTS[1])
MANIFEST = """
name = "blue"
[solve]
augment = false
[[edit]]
source = "a rose"
destination = "a blue rose"
strength = 0.5
[[edit]]
source = "a cat"
destination = "a green cat (in a hat)"
[preserve]
everyday = "few.txt"
prompts = ["a red rose"]
"""


def off(found: torch.Tensor, wanted: torch.Tensor, before: torch.Tensor) -> float:
    return float((found.double() - wanted.double()).norm() / (before.double() - wanted.double()).norm())


def weights(patcher: Any) -> dict[str, torch.Tensor]:
    """What ComfyUI makes of a patcher's weights, and takes back."""
    patcher.patch_model(device_to=small.CPU)
    found = {name: tensor.clone() for name, tensor in patcher.model.state_dict().items()}
    patcher.unpatch_model(device_to=small.CPU)
    return found


def edited(before: dict[str, torch.Tensor], maps: Any, delta: Any, strength: float) -> dict[str, torch.Tensor]:
    keys = {network.PREFIX + maps.name(matrix): delta.operators[matrix.stream] for matrix in maps.family.matrices}
    return {key: apply(t, keys[key], strength) if key in keys else t for key, t in before.items()}


def apart(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor], before: dict[str, torch.Tensor]) -> float:
    """The largest distance of any weight, and 2 where one differs that should not."""
    worst = 0.0
    for key, tensor in one.items():
        if torch.equal(other[key], before[key]):
            worst = max(worst, 0.0 if torch.equal(tensor, other[key]) else 2.0)
        else:
            worst = max(worst, off(tensor, other[key], before[key]))
    return worst


def lora(maps: Any) -> dict[str, Any]:
    """A LoRA on some map that the edit has, too."""
    name = maps.name(maps.family.matrices[0])
    rows, columns = maps.weights[name].shape
    random = torch.Generator().manual_seed(7)
    up, down = torch.randn(rows, 2, generator=random), torch.randn(2, columns, generator=random)
    return {network.PREFIX + name: LoRAAdapter(set(), (up, down, 2.0, None, None, None))}


def plain_lora(before: dict[str, torch.Tensor], maps: Any) -> dict[str, torch.Tensor]:
    return {key: before[key] + adapter.weights[0] @ adapter.weights[1] for key, adapter in lora(maps).items()}


def batched(encoder: Any) -> dict[str, Any]:
    """Prompts that are read together against each alone: how far apart, and of how many each tower is asked for."""
    prompts = [*small.FEW.splitlines(), "A dog", "a dog", "(a dog:1.3) with a very long and detailed tail", ""]
    counts: list[int] = []

    def together(count: int) -> list[dict[str, torch.Tensor]]:
        before = len(counts)
        made = [states for first in range(0, len(prompts), count) for states in encoder.encode(prompts[first:][:count])]
        assert len(made) == len(prompts) and len(counts) > before
        return made

    towers = {name: (tower, tower.forward) for name, tower in encoder._towers.items()}
    for tower, forward in towers.values():
        tower.forward = lambda tokens, forward=forward: counts.append(len(tokens)) or forward(tokens)
    alone = together(1)
    calls = [len(counts), max(counts)]
    counts.clear()
    pairs = [
        (one[stream], other[stream]) for one, other in zip(alone, together(len(prompts)), strict=True) for stream in one
    ]
    for tower, _ in towers.values():
        del tower.forward
    assert not any("encode" in vars(tower) for tower, _ in towers.values()), "nothing stays on the text encoder"
    return {
        "apart": max(float((one - other).norm() / one.norm()) for one, other in pairs),
        "alone": calls, "together": [len(counts), max(counts)], "read": sum(counts) / len(towers),
    }  # fmt: skip


@torch.inference_mode()
def main() -> dict[str, Any]:
    (place / "few.txt").write_text(small.FEW)
    (place / "m.toml").write_text(MANIFEST)
    patcher, clip = small.FAMILIES[family]()
    found: dict[str, Any] = {}
    node, text = small.pack.EditAssumption(), str(place / "m.toml")
    before = weights(patcher)
    shown: list[tuple[int, int]] = []
    comfy.utils.set_progress_bar_global_hook(lambda value, total, *_, **__: shown.append((value, total)))
    changed, delta = node.edit(patcher, clip, text, 1.0)
    comfy.utils.set_progress_bar_global_hook(None)
    found["shown"] = shown
    maps = network.maps(patcher)
    encoder = states.read(clip, maps)
    found["batched"] = batched(encoder)
    found["origin"] = [delta.origin.states_of, delta.origin.behind_norm, sorted(delta.operators)]
    found["family"] = maps.family.name
    found["sentence"] = solving.solved(patcher, clip, text).sentence
    model = timecli.Loaded(maps, encoder, small.CPU)
    manifest = timecli.load_manifest(text)
    rows = timecli.plan(manifest, model, delta, timecli.everyday_world(manifest, model, place / "cache")).forecasts
    found["shares"] = [one.share for one in rows if one.row.kind == "source"]
    found["aligned"] = [
        [encoder.words(one)[row] for row in encoder.own(one)] for one in ("a rose", "a green cat (in a hat)")
    ]
    words, goal = encoder.words("a blue rose"), encoder.alignment("a rose", "a blue rose")
    found["goes to"] = [words[goal[row]] for row in encoder.own("a rose")]
    found["weights"] = {
        str(s): apart(weights(network.patched(patcher, delta, s)), edited(before, maps, delta, s), before)
        for s in (1.0, 0.5, -0.5)
    }
    none = weights(network.patched(patcher, delta, 0.0))
    found["none"] = all(torch.equal(none[key], before[key]) for key in before)
    twice = network.patched(network.patched(patcher, delta, 0.5), delta, -1.0)
    wanted = edited(edited(before, maps, delta, 0.5), maps, delta, -1.0)
    found["two in a row"] = apart(weights(twice), wanted, before)
    ahead = patcher.clone()
    ahead.add_patches(lora(maps), 1.0)
    wanted = edited({**before, **plain_lora(before, maps)}, maps, delta, 1.0)
    found["behind a lora"] = apart(weights(network.patched(ahead, delta, 1.0)), wanted, before)
    behind = network.patched(patcher, delta, 1.0)
    behind.add_patches(lora(maps), 1.0)
    wanted = edited(before, maps, delta, 1.0)
    wanted = {**wanted, **{key: wanted[key] + t - before[key] for key, t in plain_lora(before, maps).items()}}
    found["before a lora"] = apart(weights(behind), wanted, before)
    found.update(pictures(patcher, clip, delta, changed, maps))
    after = weights(patcher)
    found["restored"] = all(torch.equal(after[key], before[key]) for key in before)
    found["fp8"] = fp8(patcher, maps, delta)
    return found


def pictures(patcher: Any, clip: Any, delta: Any, changed: Any, maps: Any) -> dict[str, Any]:
    """By ComfyUI's sampler: the patched MODEL against the MODEL as it is, which reads edited text."""
    cat, rose, empty = (small.conditioning(clip, prompt) for prompt in ("a cat", "a rose and a cat", ""))
    plain = small.drawn(patcher, rose, empty)
    made = small.drawn(changed, rose, empty)
    result: dict[str, Any] = {"unplugged": bool(torch.equal(plain, small.drawn(patcher, rose, empty)))}
    part = {name: conditioning.Operator(one.left, one.right) for name, one in delta.operators.items()}
    shift = conditioning.Delta("x", part["text"], part.get("pooled"))

    def of_edited(positive: Any, negative: Any, **more: Any) -> torch.Tensor:
        if maps.family.norm is None:
            texts = (conditioning.edited(one, shift, 1.0) for one in (positive, negative))
            return small.drawn(patcher, *texts, **more)
        norm = patcher.model.diffusion_model.get_submodule(maps.family.norm[0].removesuffix(".weight"))
        handle = norm.register_forward_hook(lambda _, __, c: c + delta.operators["text"].shift(c).to(c))
        try:
            return small.drawn(patcher, positive, negative, **more)
        finally:
            handle.remove()

    def both(positive: Any, negative: Any, **more: Any) -> float:
        wanted, found = of_edited(positive, negative, **more), small.drawn(changed, positive, negative, **more)
        return off(found, wanted, small.drawn(patcher, positive, negative, **more))

    result["picture"] = both(rose, empty)
    if maps.family.norm is None:
        half = small.drawn(patcher, conditioning.edited(rose, shift, 1.0), empty)
        result["one prompt alone"] = off(made, half, plain)
    result["batch"] = both(rose, empty, batch=2)
    (regions,) = own.ConditioningCombine().combine(*own.ConditioningSetArea().append(cat, 32, 64, 0, 0, 1.0), rose)
    result["regions"] = both(regions, empty)
    result["joined"] = both(own.ConditioningConcat().concat(cat, rose)[0], empty)
    result["mixed"] = both(own.ConditioningAverage().addWeighted(cat, rose, 0.3)[0], empty)
    (timed,) = own.ConditioningSetTimestepRange().set_range(rose, 0.0, 0.4)
    result["timed"] = both(timed + own.ConditioningSetTimestepRange().set_range(cat, 0.4, 1.0)[0], empty)
    return result


def fp8(patcher: Any, maps: Any, delta: Any) -> bool:
    """Whether weights in fp8 become what ComfyUI rounds the edited ones to, as it does with a LoRA."""
    kind, seen = torch.float8_e4m3fn, []
    small_keys = {network.PREFIX + maps.name(matrix): matrix.stream for matrix in maps.family.matrices}
    for name, parameter in patcher.model.named_parameters():
        if name in small_keys:
            parameter.data = parameter.data.to(kind)
    before = {name: tensor for name, tensor in patcher.model.state_dict().items() if name in small_keys}
    after = weights(network.patched(patcher, delta, 1.0))
    for key, stream in small_keys.items():
        exact = apply(before[key].float(), delta.operators[stream])
        seen.append(
            torch.equal(
                after[key].float(), comfy.float.stochastic_rounding(exact, kind, seed=string_to_seed(key)).float()
            )
        )
    return all(seen) and not all(torch.equal(after[key].float(), before[key].float()) for key in small_keys)


print(json.dumps(main()))
