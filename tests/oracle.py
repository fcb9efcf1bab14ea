"""What an edit must be, from diffusers alone: its text, its lengths and templates, and the formula written out.

Nothing here is asked of the package. `encode_prompt` gives the text, what it hands to the text encoders says which
token stands where, and Eq. 5 is solved by an inverse in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from inspect import signature
from typing import Any

import torch
from torch.nn.functional import pad

LAMBDA = 0.1
Rows = list[tuple[list[int], list[bool], torch.Tensor]]
"""Of every text encoder whose states stand in the text: token ids, which of them are no padding, states."""


@dataclass
class Handed:
    """What `encode_prompt` returned, and what the text encoders were given for it."""

    result: Any
    ids: dict[str, torch.Tensor] = field(default_factory=dict)
    masks: dict[str, torch.Tensor] = field(default_factory=dict)

    def own(self, name: str) -> list[bool]:
        """Which tokens are no padding: without a mask, those up to the first end token, which pads in CLIP."""
        if name in self.masks:
            return [bool(one) for one in self.masks[name]]
        ids = self.ids[name].tolist()
        last = next(place for place, one in enumerate(ids) if one == self.ends[name])
        return [place <= last for place in range(len(ids))]

    ends: dict[str, int] = field(default_factory=dict)


@torch.no_grad()
def handed(pipeline: Any, prompt: str) -> Handed:
    """Encode a prompt as the pipeline does for its network, with the length that it draws with."""
    found = Handed(None)
    hooks = []
    for name, part in pipeline.components.items():
        if not name.startswith("text_encoder"):
            continue
        words = pipeline.components[name.replace("text_encoder", "tokenizer")]
        found.ends[name] = words.eos_token_id

        def listen(_: Any, given: Any, values: Any, name: str = name) -> None:
            found.ids[name] = (values["input_ids"] if "input_ids" in values else given[0])[0]
            if values.get("attention_mask") is not None:
                found.masks[name] = values["attention_mask"][0]

        hooks.append(part.register_forward_pre_hook(listen, with_kwargs=True))
    asked, drawn = signature(pipeline.encode_prompt).parameters, signature(pipeline.__call__).parameters
    options: dict[str, Any] = {
        "prompt_2": None, "prompt_3": None, "device": torch.device("cpu"), "num_images_per_prompt": 1,
        "do_classifier_free_guidance": False,
    }  # fmt: skip
    if "max_sequence_length" in drawn:
        options["max_sequence_length"] = drawn["max_sequence_length"].default
    found.result = pipeline.encode_prompt(
        prompt=[prompt], **{name: value for name, value in options.items() if name in asked}
    )
    for hook in hooks:
        hook.remove()
    return found


def whole(name: str) -> Callable[[Any, Handed], Rows]:
    """The states of one text encoder at all its positions."""

    def rows(_: Any, seen: Handed) -> Rows:
        return [(seen.ids[name].tolist(), seen.own(name), seen.result[0][0])]

    return rows


def sd3(_: Any, seen: Handed) -> Rows:
    """77 positions of the two CLIPs side by side, and those of T5 behind them."""
    states = seen.result[0][0]
    names = ("text_encoder", "text_encoder_3")
    parts = states.split([len(seen.ids[name]) for name in names])
    return [(seen.ids[name].tolist(), seen.own(name), part) for name, part in zip(names, parts, strict=True)]


def chroma(_: Any, seen: Handed) -> Rows:
    """The positions that the network looks at: the prompt and one of padding."""
    count = int(seen.result[2][0].sum())
    name = "text_encoder"
    return [(seen.ids[name][:count].tolist(), seen.own(name)[:count], seen.result[0][0][:count])]


def qwen_image(pipeline: Any, seen: Handed) -> Rows:
    """What stands behind the template's first tokens, as the network's norm makes it."""
    states = pipeline.transformer.txt_norm(seen.result[0][0])
    ids = seen.ids["text_encoder"].tolist()[-len(states) :]
    return [(ids, [True] * len(ids), states)]


def z_image(pipeline: Any, seen: Handed) -> Rows:
    """The positions that are no padding, as the network's norm makes them."""
    own = torch.tensor(seen.own("text_encoder"))
    ids = seen.ids["text_encoder"][own].tolist()
    return [(ids, [True] * len(ids), pipeline.transformer.cap_embedder[0](seen.result[0][0]))]


TEXTS = {
    # how the text is made, and where the vector is in what is returned
    "sd1": (whole("text_encoder"), None), "sd2": (whole("text_encoder"), None), "sdxl": (whole("text_encoder"), 2),
    "sd3": (sd3, 2), "flux": (whole("text_encoder_2"), 1), "chroma": (chroma, None),
    "flux2": (whole("text_encoder"), None), "klein": (whole("text_encoder"), None), "qwen-image": (qwen_image, None),
    "z-image": (z_image, None),
}  # fmt: skip


def paired(source: tuple[list[int], list[bool]], destination: tuple[list[int], list[bool]]) -> list[int]:
    """For every position the destination's, which has all the source's tokens and some more in one place.

    Padding goes to padding, the first to the first.
    """
    (ids, own), (others, theirs) = source, destination
    one, other = ([i for i, is_own in zip(a, b, strict=True) if is_own] for a, b in (source, destination))
    added = len(other) - len(one)
    at = next(place for place in range(len(one)) if one[place] != other[place])
    assert added > 0 and one == other[:at] + other[at + added :]
    first, start = own.index(True), theirs.index(True)
    found = []
    for place in range(len(ids)):
        inside = place - first
        there = start + inside + (added if inside >= at else 0)
        found.append(min(max(there, 0), len(others) - 1))
    return found


def solved(rows: list[tuple[torch.Tensor, torch.Tensor]]) -> torch.Tensor:
    """D `[d, d]` of pairs of states and where they should be, by the normal equations."""
    c, goal = (torch.cat(part).double() for part in zip(*rows, strict=True))
    return (goal - c).T @ c @ torch.linalg.inv(LAMBDA * torch.eye(c.shape[1], dtype=torch.float64) + c.T @ c)


@torch.no_grad()
def operators(pipeline: Any, family: str, source: str, destination: str) -> dict[str, torch.Tensor]:
    """D of every stream."""
    rows_of, vector = TEXTS[family]
    one, other = handed(pipeline, source), handed(pipeline, destination)
    rows = [
        (before, after[paired((ids, own), (others, theirs))])
        for (ids, own, before), (others, theirs, after) in zip(
            rows_of(pipeline, one), rows_of(pipeline, other), strict=True
        )
    ]
    found = {"text": solved(rows)}
    if vector is not None:
        found["pooled"] = solved([(one.result[vector], other.result[vector])])
    return found


def edited(weight: torch.Tensor, operator: torch.Tensor) -> torch.Tensor:
    """W (I + D), float64; of a map with more columns than text, the first."""
    rest = weight.shape[1] - len(operator)
    return weight.double() + weight.double() @ pad(operator, (0, rest, 0, rest))
