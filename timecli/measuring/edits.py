"""The edited models of a bench, one after the other: what makes each of the base, and how far its prompts will go."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch

from timecli.drawing.album import mine
from timecli.editing import forecast
from timecli.editing.delta import Delta
from timecli.errors import TimecliError
from timecli.files.rewriting import write_tensors
from timecli.files.safefile import open_file
from timecli.files.tensors import raw
from timecli.files.writing import make_folder
from timecli.manifests.manifest import Manifest
from timecli.measuring.rivals import Change, make
from timecli.measuring.schedule import BASE, TRAINED, Job, Texts, tested
from timecli.models.checkpoint import Checkpoint
from timecli.text.everyday import Everyday
from timecli.text.readers import TextEncoder

SEAL = "timecli.seal"
"""Metadata of kept weights by which they are told from anybody else's."""
Shares = Mapping[Texts, float | None]
"""(prompt, destination) -> how far it is forecast to go."""


@dataclass
class Edits:
    """The edited models of a bench, made when they are needed; what took long to make is kept in a folder.

    Attributes:
        world: the everyday world of a manifest.
        head: what results depend on, see `header`.
        seconds: how long making each took, by model.
    """

    checkpoint: Checkpoint
    encoder: TextEncoder
    device: torch.device
    iterations: int
    world: Callable[[Manifest], Everyday | None]
    jobs: Mapping[str, Job]
    head: str
    folder: Path
    seconds: dict[str, float] = field(default_factory=dict)
    _last: tuple[str, Change | None] = (BASE, None)
    _told: dict[str, Shares] = field(default_factory=dict)

    def __call__(self, model: str) -> Change | None:
        """The edit that makes `model` of the base; None for the base itself."""
        if model != self._last[0]:
            self._last = model, None if model == BASE else self._make(self.jobs[model])
        return self._last[1]

    def forecasts(self, model: str) -> Shares:
        """How far an edited model's prompts will go; of one whose text encoder was trained it cannot be told."""
        if self.jobs[model].configuration.method in TRAINED:
            return {}
        if model not in self._told:
            self(model)
        return self._told[model]

    def _tell(self, job: Job, delta: Delta) -> Shares:
        pairs = list(
            dict.fromkeys(
                (row.prompt, row.destination or "") for one in job.tested for row in tested(one, job.manifest.edits)
            )
        )
        metric = forecast.metric(self.checkpoint, delta.origin, self.encoder)
        return dict(zip(pairs, forecast.told(pairs, self.encoder, delta.operator, metric), strict=True))

    def _make(self, job: Job) -> Change:
        name = hashlib.sha256(f"{self.head}{job.model}".encode()).hexdigest()[:16]
        kept = self.folder / f"{name}.safetensors"
        what = f"{self.head}{job.model}"
        if (text := _kept(kept, what)) is not None:
            return Change(text=text)
        started = time.perf_counter()
        change = make(
            job.configuration, job.manifest, self.checkpoint, self.encoder, self.device, self.iterations, self.world
        )
        self.seconds[job.model] = time.perf_counter() - started
        if change.delta is not None:
            self._told[job.model] = self._tell(job, change.delta)
        if change.text is not None:
            make_folder(self.folder, 1)
            seal = mine().seal(what, _content(change.text))
            write_tensors(kept, change.text, {"model": job.model, SEAL: seal.hex()})
        return change


def _kept(path: Path, what: str) -> dict[str, torch.Tensor] | None:
    """The weights that a run of the same user has kept in a file; None for none, and for anything else."""
    try:
        file = open_file(path)
        text, seal = dict(zip(file.entries, file.read(file.entries), strict=True)), bytes.fromhex(file.metadata[SEAL])
    except (TimecliError, OSError, KeyError, ValueError):
        return None
    return text if mine().holds(what, _content(text), seal) else None


def _content(tensors: Mapping[str, torch.Tensor]) -> bytes:
    """What a seal of tensors is for."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode() + raw(tensor))
    return digest.digest()
