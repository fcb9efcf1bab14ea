"""What a network is given of a prompt: a text encoder reads it, and gives every stream its states.

Whoever needs states of one stream takes a `Reader`: the text encoder itself for the states of all positions, `Pooled`
for the vector of the whole prompt.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import torch

from timecli.errors import CheckpointError
from timecli.files.safefile import DAMAGED, finite
from timecli.models.streams import POOLED, TEXT

EVERYDAY = "everyday.txt"
"""In a model's config folder: the everyday prompts that suit it, one a line."""
MEMORY = 3 * 2**30
"""Bytes of states that are remembered: those of 13,000 prompts in SD 1, or of a thousand edits."""


def require_finite(what: str, *states: torch.Tensor) -> None:
    """Refuse states of some prompts that are no numbers."""
    if not all(map(finite, states)):
        raise CheckpointError(f"the text encoder turns {what} into NaN or infinite values; {DAMAGED}.")


@dataclass(frozen=True, kw_only=True)
class TextEncoder(ABC):
    """Prompts to states; as a reader, of the stream `TEXT`.

    Attributes:
        fingerprints: those that a delta for it can have; the first is of all weights.
        clip_skip: which layer's states come out, counted from the last; 1 is the last.
        asked: how many positions a diffusion transformer's text is filled up to; None for its pipeline's own number.
        everyday: the model's own list of everyday prompts, if it brings one.
        cautions: sentences that a user should see.
        device: where it encodes.
        states_of: the program that makes the states; empty for this one.
        memory: what was encoded, by prompt and stream.
    """

    fingerprints: tuple[str, ...]
    clip_skip: int = 1
    asked: int | None = None
    everyday: Path | None = None
    cautions: tuple[str, ...] = ()
    device: torch.device = torch.device("cpu")
    states_of: str = ""
    memory: dict[str, dict[str, torch.Tensor]] = field(default_factory=dict, init=False, repr=False, compare=False)
    stream = TEXT

    @property
    def fingerprint(self) -> str:
        """Of all weights, with which an edit is compiled."""
        return self.fingerprints[0]

    @property
    def readers(self) -> tuple[TextEncoder | Pooled, ...]:
        """Every stream of the network."""
        return (self, Pooled(self)) if self.pooled_width else (self,)

    @property
    def behind_norm(self) -> bool:
        """Whether the states are what a norm of the network makes of them."""
        return False

    @property
    @abstractmethod
    def width(self) -> int:
        """The d of the states."""

    @property
    @abstractmethod
    def pooled_width(self) -> int:
        """The d of the vector for the whole prompt; 0 where there is none."""

    @property
    def most(self) -> int:
        """The most positions that can be encoded of a prompt; 0 where a state may depend on every position."""
        return 0

    @abstractmethod
    def tokens(self, prompt: str) -> list[int]:
        """Token ids of a prompt, without padding.

        Raises:
            PromptError: the prompt is longer than the encoder reads; it would be cut silently.
        """

    def knows(self, word: str) -> bool:
        """Whether a word is one token."""
        return len(self.pieces(word)) == 1

    @abstractmethod
    def words(self, prompt: str) -> list[str]:
        """The tokens as text, for people."""

    @abstractmethod
    def pieces(self, word: str) -> list[str]:
        """The tokens of a word alone, as text."""

    @abstractmethod
    def alignment(self, source: str, destination: str) -> list[int]:
        """For every position of the source the one of the destination that it is edited towards.

        Raises:
            PromptError: the two have no word in common, or are the same tokens.
        """

    @abstractmethod
    def own(self, prompt: str) -> list[int]:
        """The positions that are not padding; the last has seen the whole prompt."""

    def enough(self, prompts: Sequence[str], behind: int = 0, least: int = 0) -> int:
        """Positions to encode: so many behind the longest prompt, and no fewer than `least`; 0 is all."""
        return 0

    def standing(self, rows: int) -> torch.Tensor:
        """How many positions each of a prompt's first rows stands for, `[rows]` float64."""
        return torch.ones(rows, dtype=torch.float64)

    @abstractmethod
    def encode(self, prompts: Sequence[str], positions: int | None = None) -> list[dict[str, torch.Tensor]]:
        """What each prompt gives to every stream, rows `[positions, d]` on the CPU, with nothing remembered."""

    def embed(self, prompts: Sequence[str], positions: int | None = None) -> Sequence[torch.Tensor]:
        """States `[positions, d]` of each prompt, float64 on the CPU; what is remembered is not encoded again."""
        count = positions or self.most
        return [states[TEXT][: count or None].double() for states in self.remembered(prompts, count)]

    def remembered(self, prompts: Sequence[str], positions: int) -> list[dict[str, torch.Tensor]]:
        """What each prompt gives to every stream, of the text at least so many positions."""
        distinct = dict.fromkeys(prompts)
        left = [p for p in distinct if p not in self.memory or len(self.memory[p][TEXT]) < positions]
        known = {prompt: self.memory[prompt] for prompt in distinct.keys() - left}
        for states, prompt in zip(self.encode(left, positions or None), left, strict=True):
            known[prompt] = states
            if states[TEXT].nbytes * (len(self.memory) + 1) <= MEMORY:
                self.memory[prompt] = states
        return [known[prompt] for prompt in prompts]

    def fresh(self) -> None:
        """Forget what was encoded: an edit's bytes do not depend on what was encoded with what before."""
        self.memory.clear()


@dataclass(frozen=True)
class Pooled:
    """The vector that an encoder gives for a whole prompt, read as states of one position: the stream `POOLED`."""

    encoder: TextEncoder
    stream = POOLED
    length = 1

    @property
    def width(self) -> int:
        """The d of the vector."""
        return self.encoder.pooled_width

    def tokens(self, prompt: str) -> list[int]:
        """The prompt's token ids; the vector is of all of them."""
        return self.encoder.tokens(prompt)

    def alignment(self, source: str, destination: str) -> list[int]:
        """The only position; raises what the encoder's raises."""
        self.encoder.alignment(source, destination)
        return [0]

    def embed(self, prompts: Sequence[str], positions: int | None = None) -> torch.Tensor:
        """Vectors `[len(prompts), 1, d]` float64 on the CPU."""
        states = self.encoder.remembered(prompts, self.encoder.enough(prompts))
        return torch.stack([one[POOLED] for one in states]).double()

    def enough(self, prompts: Sequence[str], behind: int = 0, least: int = 0) -> int:
        """The one."""
        return 1

    def standing(self, rows: int) -> torch.Tensor:
        """One position is one position."""
        return torch.ones(rows, dtype=torch.float64)

    def own(self, prompt: str) -> list[int]:
        """The one."""
        return [0]


Reader: TypeAlias = TextEncoder | Pooled
"""What one stream of a network is given of a prompt."""
