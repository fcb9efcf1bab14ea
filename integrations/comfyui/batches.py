"""Several prompts at once through ComfyUI's text encoders, of which its own way asks for one at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from comfy.sd1_clip import SDClipModel

from timecli.text.encoding import ROWS

Tokens = tuple[int, ...]


class Ahead:
    """What a text encoder makes of some tokens; it reads others of the same length, which will be asked for, with them.

    Nothing else of ComfyUI's way changes: templates, padding, layers, and how the encoders' states are joined.
    """

    def __init__(self, tower: SDClipModel, waiting: Iterable[Tokens]) -> None:
        """The tokens of all prompts that will be asked for."""
        self.encode = tower.encode
        self.waiting = dict.fromkeys(waiting)
        self.known: dict[Tokens, tuple[Any, ...]] = {}

    def __call__(self, tokens: list[list[Any]]) -> Any:
        """States `[1, positions, d]`, a vector `[1, d]` or None, and what else the encoder gives."""
        asked = tuple(tokens[0])
        if asked not in self.known:
            if len(tokens) > 1 or asked not in self.waiting:
                return self.encode(tokens)
            self._read(asked)
        return self.known.pop(asked)

    def _read(self, asked: Tokens) -> None:
        alike = [one for one in self.waiting if len(one) == len(asked) and one != asked]
        batch = [asked, *alike[: max(1, ROWS // len(asked)) - 1]]
        made = self.encode([list(one) for one in batch])
        for row, one in enumerate(batch):
            del self.waiting[one]
            self.known[one] = tuple(_row(part, row) for part in made)


def _row(part: Any, row: int) -> Any:
    """Of what was made of several prompts that of one."""
    if isinstance(part, dict):
        return {name: _row(one, row) for name, one in part.items()}
    return part[row : row + 1] if isinstance(part, torch.Tensor) else part


@contextmanager
def together(towers: dict[str, Any], prompts: Iterable[dict[str, Any]]) -> Iterator[None]:
    """Inside, text encoders read together what has the same length.

    Args:
        towers: text encoders, by the names that their tokens have.
        prompts: the tokens of every prompt that will be encoded; one of several chunks, or with a textual inversion,
            is read alone.
    """
    given = list(prompts)
    able = {name: tower for name, tower in towers.items() if isinstance(tower, SDClipModel)}
    for name, tower in able.items():
        chunks = [tokens[name] for tokens in given]
        whole = [tuple(token for token, *_ in one[0]) for one in chunks if len(one) == 1]
        tower.encode = Ahead(tower, [one for one in whole if all(isinstance(token, int) for token in one)])
    try:
        yield
    finally:
        for tower in able.values():
            del tower.encode
