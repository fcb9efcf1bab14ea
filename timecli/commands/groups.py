"""Options that several commands share, as one parameter each."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from functools import wraps
from typing import Any, get_type_hints

from timecli.commands import options


@dataclass(frozen=True)
class Reading:
    """How MODEL's text is read, and the everyday world in it."""

    config: options.Config = None
    comfyui: options.ComfyUI = None
    tokenizer: options.Tokenizer = None
    text_encoder: options.TextEncoders = None
    clip_skip: options.ClipSkip = None
    length: options.Length = None
    everyday: options.EverydayFile = None
    no_cache: options.NoCache = False
    device: options.Device = "auto"


@dataclass(frozen=True)
class Drawing:
    """How pictures are drawn and who judges them."""

    steps: options.Steps = None
    guidance: options.Guidance = None
    judge_path: options.JudgePath = None
    precision: options.Precision = "auto"


@dataclass(frozen=True)
class Writing:
    """How an edited model is written."""

    in_place: options.InPlace = False
    dtype: options.Dtype = "keep"
    force: options.Force = False
    stack: options.Stack = False
    leave_ema: options.LeaveEma = False
    no_recipe: options.NoRecipe = False
    with_hash: options.WithHash = False
    with_config: options.WithConfig = False


@dataclass(frozen=True)
class Trying:
    """Values that are tried in place of the manifest's; the result says so."""

    lam: options.TriedLambda = None
    everyday_weight: options.TriedWeight = None
    strength: options.TriedStrength = None

    def values(self) -> dict[str, float]:
        """Those that are given, by the manifest's keys."""
        given = {"lambda": self.lam, "everyday_weight": self.everyday_weight, "strength": self.strength}
        return {key: value for key, value in given.items() if value is not None}


@dataclass(frozen=True)
class Telling:
    """How much a command says."""

    as_json: options.AsJson = False
    quiet: options.Quiet = False


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """The same command with the fields of its groups as options, in place of the groups."""
    hints = get_type_hints(command, include_extras=True)
    given = inspect.signature(command).parameters
    groups = {name: hints[name] for name in given if is_dataclass(hints.get(name))}
    flat: list[inspect.Parameter] = []
    for name, parameter in given.items():
        kind = hints[name]
        if name not in groups:
            flat.append(parameter.replace(annotation=kind))
            continue
        types = get_type_hints(kind, include_extras=True)
        flat += [
            inspect.Parameter(item.name, parameter.kind, default=item.default, annotation=types[item.name])
            for item in fields(kind)
        ]

    @wraps(command)
    def call(**values: Any) -> None:
        made = {
            name: kind(**{item.name: values.pop(item.name) for item in fields(kind)}) for name, kind in groups.items()
        }
        command(**values, **made)

    call.__signature__ = inspect.Signature(flat)  # type: ignore[attr-defined]
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in flat}
    return call
