"""The everyday world as text states: what an edit should leave alone, in expectation.

With G = mean over everyday prompts of Σ_positions c cᵀ, the rows R of a root of G (Rᵀ R = G) are preserved like a
prompt's: they enter the inverse of the solve, with a weight ρ, and nothing else,

    D = (C* − C) Λ Cᵀ (I + C Λ Cᵀ + ρ Rᵀ R)⁻¹.

It is the covariance prior of MEMIT (Meng et al. 2023) and, from COCO captions on the keys and values of Stable
Diffusion, of MACE (Lu et al. 2024); here it is taken in text space, once for all layers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import torch

from timecli.errors import CheckpointError, ManifestError
from timecli.files import foreign
from timecli.files.parts import real
from timecli.files.safefile import DAMAGED
from timecli.manifests.manifest import Manifest
from timecli.text.encoding import BATCH
from timecli.text.readers import TextEncoder, require_finite

OTHER = "states_of"
"""Also saved where another program makes the states."""
LIST = ".txt"
"""How the name of a list ends that a manifest asks for, links resolved."""
POSITIONS = 32
"""Positions that are encoded; the last stands for the padding behind it. A longer prompt has all its own."""

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
        raise CheckpointError(f"the text encoder turns everyday prompts into zeros; {DAMAGED}.")
    return Everyday(roots, last, world, about(manifest, encoder, world))


def _added(root: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """The root of the sum of Rᵀ R and that of some rows."""
    require_finite("everyday prompts", rows)
    root = torch.linalg.qr(torch.cat([root, rows]), mode="r").R
    return root
