"""How far prompts will go, from text alone: no picture is drawn and no UNet is built.

With M = Σ Wᵀ W over all maps of one stream that are edited, a prompt c goes the share

    ⟨D c, c* − c⟩_M / ‖c* − c‖²_M

of its way to its destination c*, over all positions: what the network is given moves that far along what it would be
given for the destination. 0 stays, 1 arrives, above 1 goes past it. Padding counts as much as the prompt's own tokens,
all of it together: it is most of what SD reads, and pictures go by both. (picturebook: with every position counted
once, shares go with what is drawn of twelve professions with a correlation of .79, so with .91; of Table 2 both tell
which prompts show the destination, AUC .991 and .993.)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import exp, isfinite
from typing import NamedTuple

import torch

from timecli.editing.applying import covers, require_width
from timecli.editing.delta import Origin
from timecli.editing.solve import Operator
from timecli.errors import CheckpointError, PromptError
from timecli.models.maps import Network
from timecli.models.streams import TEXT
from timecli.text.readers import Reader

PADDING = 4
"""Positions behind a prompt and its destination that are looked at; the last stands for the rest of the padding. All
positions tell no better which of the two is drawn (picturebook, Table 2: AUC .982 for .980)."""
HALF, STEEP = 0.45, 8.8
"""The share at which half of the pictures show the destination, and how quickly that changes: a logistic curve, fitted
to what was drawn for picturebook's validation edits (`examples/picturebook/curve.py`)."""
GONE, BENT = 1.82, 1.33
"""How far a prompt moves whose picture keeps half of its likeness, and how the likeness falls; fitted
to what should stay on those edits with the pair alone. Of a ruined model it is too bright (TIME with λ 0.1: .67
forecast, .52 drawn). What is left of the way to a destination tells *reached* by the same curve: .92 forecast and .94
drawn on those edits, .78 and .69 with TIME."""


def metric(checkpoint: Network, origin: Origin, reader: Reader) -> torch.Tensor:
    """M = Σ Wᵀ W over the maps of a stream that an edit covers, `[d, d]` float64; a model remembers it.

    Raises:
        CheckpointError: those that read the text's states are zero, so that no edit changes what is drawn.
    """
    key = reader.stream, reader.width, origin.matrices, origin.layers
    if key not in checkpoint.metrics:
        checkpoint.metrics[key] = _summed(checkpoint, origin, reader)
    return checkpoint.metrics[key]


def _summed(checkpoint: Network, origin: Origin, reader: Reader) -> torch.Tensor:
    total = torch.zeros(reader.width, reader.width, dtype=torch.float64)
    for place, weight in checkpoint.projections(twins=False, streams=(reader.stream,)):
        if covers(origin, place.matrix):
            require_width(weight, place.where, reader.width, place.matrix.leading)
            wide = weight[:, : reader.width].float()  # of which shares are ratios: seven digits are enough
            total += wide.T @ wide
    if reader.stream == TEXT and not total.any():
        raise CheckpointError(
            f"{checkpoint.path} has only zeros in the maps that the edit covers, so that no prompt changes a picture; "
            "the model is damaged, use another copy."
        )
    return total


def shares(pairs: Sequence[tuple[str, str]], reader: Reader, operator: Operator, metric: torch.Tensor) -> list[float]:
    """How far each prompt goes to its destination.

    Args:
        pairs: prompts and destinations, with tokens in common and not the same (`Reader.alignment`).
        reader: the model's, of one stream.
        operator: D.
        metric: M, `[d, d]` float64.
    """
    return [float((operator.shift(one.states) * one.toward).sum()) for one in ways(pairs, reader, metric)]


class Way(NamedTuple):
    """The way of a prompt to its destination, as the maps see it.

    Attributes:
        states: c, `[positions, d]` float64; `change` is c* − c, likewise.
        toward: what moves c by δ goes the share Σ δ · toward, M (c* − c) / ‖c* − c‖²_M; it is infinite or NaN where the
            maps do not tell the prompt from its destination.
    """

    states: torch.Tensor
    change: torch.Tensor
    toward: torch.Tensor


def ways(pairs: Sequence[tuple[str, str]], reader: Reader, metric: torch.Tensor) -> Iterator[Way]:
    """That of every prompt; arguments as in `shares`."""
    for (prompt, _), (before, goal) in zip(pairs, _both(pairs, reader), strict=True):
        change = goal - before
        measured = _counted(prompt, len(before), reader)[:, None] * (change @ metric)
        yield Way(before, change, measured / (change * measured).sum())


def _counted(prompt: str, rows: int, reader: Reader) -> torch.Tensor:
    """How much each of a prompt's first rows counts, `[rows]` float64."""
    weight, own = reader.standing(rows), reader.own(prompt)
    padding = torch.ones(rows, dtype=torch.bool)
    padding[own] = False
    if padding.any():
        weight[padding] *= len(own) / weight[padding].sum()
    return weight


def _both(pairs: Sequence[tuple[str, str]], reader: Reader) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """States `[positions, d]` of every prompt, and of its destination at the positions that go with them."""
    for (prompt, destination), (before, after) in zip(pairs, _states(pairs, reader), strict=True):
        places = torch.tensor(reader.alignment(prompt, destination)[: len(before)]).clamp(max=len(after) - 1)
        yield before, after[places]


def _states(asked: Sequence[Sequence[str]], reader: Reader) -> Iterator[list[torch.Tensor]]:
    """States `[positions, d]` of prompts that go together, of which the last stands for the padding behind it.

    They are encoded all at once, and each is cut to what it needs: what is told of it does not depend on the others.
    """
    prompts = [prompt for together in asked for prompt in together]
    positions = [reader.enough(together, behind=PADDING) for together in asked]
    states = iter(reader.embed(prompts, max(positions)) if prompts else [])
    for together, count in zip(asked, positions, strict=True):
        yield [next(states)[: count or None] for _ in together]


def kept(prompts: Sequence[str], reader: Reader, operator: Operator, metric: torch.Tensor) -> list[float]:
    """How like itself each prompt's picture will stay, as `timecli verify` measures *kept*: by how far it moves."""
    asked = [[prompt] for prompt in prompts]
    return [_like(states, operator.shift(states), reader, metric) for (states,) in _states(asked, reader)]


def reached(pairs: Sequence[tuple[str, str]], reader: Reader, operator: Operator, metric: torch.Tensor) -> list[float]:
    """How like its destination's a prompt's picture will be, likewise, of each that `aligned` accepts: by what is left.

    Args:
        pairs: prompts and destinations.
        reader: the model's, of one stream.
        operator: D.
        metric: M, `[d, d]` float64.
    """
    told = [pair for pair in pairs if aligned(*pair, reader)]
    return [_like(goal, goal - before - operator.shift(before), reader, metric) for before, goal in _both(told, reader)]


def _like(states: torch.Tensor, off: torch.Tensor, reader: Reader, metric: torch.Tensor) -> float:
    """How like a picture is to that of some states, from which what is drawn is `off`, both `[positions, d]`."""
    weight = reader.standing(len(states))
    whole, part = (weight @ _squares(one, metric) for one in (states, off))
    like: float = 1 / (1 + (float(_ratio(part, whole).sqrt()) / GONE) ** BENT)
    return like


def told(
    asked: Sequence[tuple[str, str | None]], reader: Reader, operator: Operator, metric: torch.Tensor
) -> list[float | None]:
    """`shares` of those of which it can be told: None without a destination, or without a word in common with it."""
    pairs = [(prompt, goal) for prompt, goal in asked if goal and aligned(prompt, goal, reader)]
    found: dict[tuple[str, str | None], float] = {}
    found.update(zip(pairs, shares(pairs, reader, operator, metric), strict=True))
    return [share if (share := found.get(one)) is not None and isfinite(share) else None for one in asked]


def aligned(prompt: str, destination: str, reader: Reader) -> bool:
    """Whether a prompt has a word in common with its destination, and both are short enough to be read."""
    try:
        return bool(reader.alignment(prompt, destination))
    except PromptError:
        return False


def moves(states: torch.Tensor, operator: Operator, metric: torch.Tensor) -> torch.Tensor:
    """How far states `[n, d]` move, whereto ever: ‖D c‖_M / ‖c‖_M, `[n]` float64."""
    wide = states.double()
    return _ratio(_squares(operator.shift(wide), metric), _squares(wide, metric)).sqrt()


def _ratio(part: torch.Tensor, whole: torch.Tensor) -> torch.Tensor:
    """`part / whole`; of nothing, nothing is 0."""
    return torch.where(part == 0, part, part / whole)


def length(states: torch.Tensor, metric: torch.Tensor) -> float:
    """‖c‖_M of states `[positions, d]`, all positions together."""
    return float(((states @ metric) * states).sum().clamp(min=0).sqrt())


def _squares(states: torch.Tensor, metric: torch.Tensor) -> torch.Tensor:
    """‖c‖²_M of states `[..., d]`."""
    return ((states @ metric) * states).sum(-1).clamp(min=0)


def shown(share: float) -> float:
    """The share of pictures that will show the destination, for a prompt that goes this share of its way."""
    return 1 / (1 + exp(min(max(STEEP * (HALF - share), -700), 700)))
