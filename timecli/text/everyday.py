"""The everyday world as text states: what an edit should leave alone, in expectation.

With G = mean over everyday prompts of Σ_positions c cᵀ, the rows R of a root of G (Rᵀ R = G) are preserved like a
prompt's: they enter the inverse of the solve, with a weight ρ, and nothing else,

    D = (C* − C) Λ Cᵀ (I + C Λ Cᵀ + ρ Rᵀ R)⁻¹.

It is the covariance prior of MEMIT (Meng et al. 2023) and, from COCO captions on the keys and values of Stable
Diffusion, of MACE (Lu et al. 2024); here it is taken in text space, once for all layers.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from platformdirs import user_cache_path

from timecli.errors import CheckpointError, ManifestError, TimecliError
from timecli.files import foreign
from timecli.files.parts import real
from timecli.files.rewriting import write_tensors
from timecli.files.safefile import open_file
from timecli.files.seals import make_private
from timecli.files.tensors import raw
from timecli.manifests import records
from timecli.manifests.manifest import Manifest
from timecli.models import streams
from timecli.text.encoding import BATCH
from timecli.text.readers import TextEncoder

KEY = "timecli.everyday"
"""The one metadata entry of a file of everyday prompts: a JSON object."""
SAVED = ("encoder", "list", "positions", "clip_skip", "length", "prompts", "sha256")
OTHER = "states_of"
"""Also saved where another program makes the states."""
LIST = ".txt"
"""How the name of a list ends that a manifest asks for, links resolved."""
POSITIONS = 32
"""Positions that are encoded; the last stands for the padding behind it. A longer prompt has all its own."""
SLACK = 0.01
"""Share by which a root may have less than the states that it is made of: those are written in float32."""

Tick = Callable[[int], None]


@dataclass(frozen=True)
class Everyday:
    """Everyday prompts as an edit needs them.

    Attributes:
        roots: of every stream R, `[d, d]` float64 or fewer rows, with Rᵀ R = G.
        ends: of every stream the state at every prompt's end token, `[n, d]` float32: what the whole prompt says, for a
            forecast.
        prompts: the list, `n` of them.
        about: what they depend on: fingerprint of the text encoder, hash of the list, `positions` (`solve.tokens`),
            `clip_skip`, `length`; `states_of` where another program makes the states.
    """

    roots: dict[str, torch.Tensor]
    ends: dict[str, torch.Tensor]
    prompts: tuple[str, ...]
    about: dict[str, str | int | None]

    @property
    def digest(self) -> str:
        """SHA-256 of the list."""
        return str(self.about["list"])


def listed(text: str) -> tuple[str, ...]:
    """The prompts of a list, one a line, each once; lines that begin with # are remarks. The empty prompt is the last.

    Classifier-free guidance draws with the empty prompt at every step.
    """
    lines = (" ".join(line.split()) for line in text.splitlines())
    found = dict.fromkeys(line for line in lines if line and not line.startswith("#"))
    return (*found, "")


def shipped() -> tuple[str, ...]:
    """The list that comes with the package."""
    return listed(resources.files("timecli").joinpath("data/everyday.txt").read_text(encoding="utf-8"))


def prompts(manifest: Manifest, encoder: TextEncoder) -> tuple[str, ...]:
    """The list that a manifest asks for: its own file, else the model's, else ours.

    Raises:
        ManifestError: the file is no list, cannot be read, or has no prompt.
    """
    wanted = manifest.preserve.everyday
    path = manifest.folder / wanted if isinstance(wanted, str) else encoder.everyday
    if path is None:
        return shipped()
    content = foreign.read(path, ManifestError)
    if isinstance(wanted, str):
        _require_list(path)
    text = foreign.decoded(content, path, "a list of prompts", ManifestError)
    found = listed(text)
    if len(found) == 1:
        raise ManifestError(f"{path} has no prompt; give it one a line.")
    return found


def _require_list(path: Path) -> None:
    """Refuse what a manifest must not have read: prompts of a list are shown, and a token or a key is none."""
    place = real(path)
    if place.suffix != LIST:
        named = f"{path} is a link to {place}, which" if path.is_symlink() else str(path)
        raise ManifestError(f"{named} is no list of everyday prompts, whose name ends in {LIST}; put them into one.")


def about(manifest: Manifest, encoder: TextEncoder, world: Sequence[str]) -> dict[str, str | int | None]:
    """What the root depends on, as it is kept beside it."""
    digest = hashlib.sha256("\n".join(world).encode()).hexdigest()
    program = {OTHER: encoder.states_of} if encoder.states_of else {}
    return {
        **program,
        "encoder": encoder.fingerprint,
        "list": digest,
        "positions": manifest.solve.tokens,
        "clip_skip": encoder.clip_skip,
        "length": encoder.asked,
    }


def measured(manifest: Manifest, encoder: TextEncoder, tick: Tick = lambda _: None) -> Everyday:
    """Encode the list that a manifest asks for.

    Args:
        manifest: whose list, and whether padding counts.
        encoder: the model's.
        tick: called with the number of prompts encoded since the last call.

    Raises:
        PromptError: a prompt is longer than the encoder reads.
        CheckpointError: the encoder gives NaN or infinity.
    """
    world = prompts(manifest, encoder)
    positions = encoder.enough(world, least=POSITIONS)
    roots = {reader.stream: torch.zeros(0, reader.width, dtype=torch.float64) for reader in encoder.readers}
    ends: dict[str, list[torch.Tensor]] = {stream: [] for stream in roots}
    for first in range(0, len(world), BATCH):
        batch = world[first : first + BATCH]
        states = encoder.encode(batch, positions)
        for reader in encoder.readers:
            rows = []
            for prompt, one in zip(batch, states, strict=True):
                found, own = one[reader.stream], reader.own(prompt)
                weight = reader.standing(len(found))
                if manifest.solve.tokens != "all":
                    weight = torch.zeros(len(found), dtype=torch.float64).index_fill_(0, torch.tensor(own), 1)
                ends[reader.stream].append(found[own[-1]].float())
                rows.append(found.double() * (weight / len(world)).sqrt()[:, None])
            roots[reader.stream] = _added(roots[reader.stream], torch.cat(rows))
        tick(len(states))
    last = {stream: torch.stack(found) for stream, found in ends.items()}
    if not all(states.any(dim=1).all() for states in last.values()):
        raise CheckpointError(
            "the text encoder turns everyday prompts into zeros; the model is damaged, use another copy."
        )
    return Everyday(roots, last, world, about(manifest, encoder, world))


def _added(root: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """The root of the sum of Rᵀ R and that of some rows."""
    if not torch.isfinite(rows).all():
        raise CheckpointError(
            "the text encoder turns everyday prompts into NaN or infinite values; the model is damaged, use another "
            "copy."
        )
    root = torch.linalg.qr(torch.cat([root, rows]), mode="r").R
    return root


def cache() -> Path:
    """The user's folder for what is encoded once."""
    return user_cache_path("timecli", appauthor=False)


def kept(manifest: Manifest, encoder: TextEncoder, folder: Path | None, tick: Tick = lambda _: None) -> Everyday:
    """The root from a cache folder, or measured and put there; a damaged or foreign file is made anew.

    Each kind of device has its own, whose last digits differ: an edit has the same bytes with and without a cache.

    Args:
        manifest: as in `measured`.
        encoder: as in `measured`.
        folder: the cache; None for no cache. One that others can write to is left alone.
        tick: as in `measured`; called for what is encoded only.
    """
    if folder is None or not make_private(folder):
        return measured(manifest, encoder, tick)
    wanted = about(manifest, encoder, prompts(manifest, encoder))
    key = {**wanted, "device": encoder.device.type}
    name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:32]
    path = folder / f"everyday-{name}.safetensors"
    try:
        found = load(path)
        if found.about == wanted and _has_streams(found, encoder):
            return found
    except (TimecliError, OSError):
        pass
    made = measured(manifest, encoder, tick)
    with suppress(TimecliError, OSError):  # a cache that cannot be written costs time and nothing else
        save(made, path)
    return made


def given(manifest: Manifest, encoder: TextEncoder, path: Path) -> Everyday:
    """The root in a file that was made for this text encoder.

    Raises:
        CheckpointError: it is no such file, or for another text encoder, layer or `tokens`.
    """
    found = load(path)
    wanted = about(manifest, encoder, ())
    for key, what in (
        ("encoder", "text encoder"), ("clip_skip", "clip_skip"), ("length", "solve.length"),
        ("positions", "solve.tokens"), (OTHER, "program (--comfyui)"),
    ):  # fmt: skip
        if found.about.get(key) != wanted.get(key):
            raise CheckpointError(f"{path} was made for another {what}; make it anew with `timecli everyday`.")
    if not _has_streams(found, encoder):
        raise CheckpointError(f"{path} lacks a stream of text of this model; make it anew with `timecli everyday`.")
    return found


def _has_streams(found: Everyday, encoder: TextEncoder) -> bool:
    """Whether there is a root as wide as what the network is given, for each stream."""
    widths = {stream: root.shape[1] for stream, root in found.roots.items()}
    return widths == {reader.stream: reader.width for reader in encoder.readers}


def save(made: Everyday, path: Path, replace: bool = True, follow: bool = False) -> None:
    """Write the root; reading it back gives the same bits. `replace` and `follow` are those of `staged`."""
    tensors = {streams.of_stream(stream, "root"): root for stream, root in made.roots.items()}
    tensors |= {streams.of_stream(stream, "ends"): ends for stream, ends in made.ends.items()}
    found = {**made.about, "prompts": made.prompts}
    metadata = json.dumps({**found, "sha256": _sum(found, tensors)}, sort_keys=True)
    write_tensors(path, tensors, {KEY: metadata}, replace, follow)


def _sum(found: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> str:
    """By which damage to a file is told."""
    digest = hashlib.sha256(json.dumps(found, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(name.encode() + raw(tensor))
    return digest.hexdigest()


def load(path: Path) -> Everyday:
    """Read a file that `save` wrote.

    Raises:
        CheckpointError: it is another file, or damaged.
    """
    file = open_file(path)
    try:
        about = records.table(foreign.read_json(file.metadata[KEY]), SAVED, (*SAVED, OTHER))
        written, tensors = about.pop("sha256"), dict(zip(file.entries, file.read(file.entries), strict=True))
        if _sum(about, tensors) != written:
            raise CheckpointError(f"{path} is damaged; make it anew with `timecli everyday`.")
        prompts, found = about.pop("prompts"), streams.streams_of(file.entries, "root")
        roots, ends = (
            {stream: tensors[streams.of_stream(stream, name)] for stream in found} for name in ("root", "ends")
        )
        for stream in found:
            _require_fit(roots[stream], ends[stream], len(prompts))
    except (KeyError, ValueError, ManifestError) as error:
        raise CheckpointError(f"{path} is no file of everyday prompts; make it with `timecli everyday`.") from error
    return Everyday(roots, ends, prompts, about)


def _require_fit(root: torch.Tensor, ends: torch.Tensor, prompts: int) -> None:
    """Raises ValueError for tensors of one stream that `save` would not have written."""
    if (root.dtype, root.ndim, ends.dtype, ends.ndim) != (torch.float64, 2, torch.float32, 2):
        raise ValueError("other tensors")
    if root.shape[1] != ends.shape[1] or len(ends) != prompts or len(root) < min(ends.shape):
        raise ValueError("tensors that do not fit")
    if not (root.isfinite().all() and ends.isfinite().all()):
        raise ValueError("NaN or infinity")
    # Rᵀ R is a sum over all positions, the ends among them: along every axis and state it is no less than theirs.
    last = ends.double()
    has = torch.cat([root.square().sum(0), (last @ root.T).square().sum(1)])
    least = torch.cat([last.square().mean(0), (last @ last.T).square().mean(1)])
    if not last.any(dim=1).all() or (has < (1 - SLACK) * least).any():
        raise ValueError("less than the ends of the prompts alone")
