"""Where a model's text encoders are: in its own file or folder, or in files that were given for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from timecli.errors import CheckpointError
from timecli.files import quantised
from timecli.files.safefile import SafeFile, open_file
from timecli.models import layouts, openclip, streams
from timecli.models.configs import CLIP_POSITIONS
from timecli.models.streams import GIVE
from timecli.models.variants import USUAL, Group, groups

if TYPE_CHECKING:
    import torch

PARTS = ("embeddings.", "encoder.", "final_layer_norm.")
"""What a text encoder's states need of transformers' CLIP."""
POSITIONS = "embeddings.position_ids"
PLACES = ("position_embedding.weight", "positional_embedding")
"""How the name of the table of positions ends."""
ALONE = ("text_model.", "", "transformer.text_model.", "model.", "transformer.")
"""What stands before the names in a file that holds one text encoder, as transformers, OpenCLIP and UIs write it."""


@dataclass(frozen=True)
class TextWeights:
    """Where a text encoder is: the tensors of some files whose names begin with a prefix."""

    tower: streams.Tower
    files: tuple[SafeFile, ...]
    prefix: str
    openclip: bool

    @property
    def width(self) -> int:
        """The d of its states."""
        mark = self.prefix + (layouts.OPENCLIP_MARK if self.openclip else layouts.HF_MARK)
        return next(int(file.entries[mark]["shape"][-1]) for file in self.files if mark in file.entries)

    @property
    def projected(self) -> int:
        """The d of its projection of the end token."""
        shape = next(file.entries[self.projection]["shape"] for file in self.files if self.projection in file.entries)
        return int(shape[1 if self.openclip else 0])

    @property
    def projection(self) -> str:
        """The tensor that projects the end token."""
        end = openclip.PROJECTION if self.openclip else openclip.HF_PROJECTION
        return self.prefix.removesuffix("text_model.") + end

    @property
    def source(self) -> Path:
        """The file that it is in, or the folder of its files."""
        return self.files[0].path if len(self.files) == 1 else self.files[0].path.parent

    def read(self) -> dict[str, torch.Tensor]:
        """Its tensors, by transformers' names without `text_model.`.

        Raises:
            CheckpointError: a weight is NaN or infinite, or quantised in a way that is not read here.
        """
        names = {name: inner for file in self.files for name in file.entries if (inner := self._inner(name))}
        stored = quantised.tensors(self.files, names, GIVE, lambda name: not name.endswith(POSITIONS))
        # in memory of their own, which is that of the file as long as nothing calculates with them
        weights = {names[name]: tensor.clone() for name, tensor in quantised.numbers(dict(stored))}
        return openclip.to_transformers(weights, self.tower.blocks) if self.openclip else weights

    def _inner(self, name: str) -> str | None:
        """A tensor's name within the text encoder; None for what is no part of it."""
        if self.tower.pooled and name == self.projection:
            return openclip.PROJECTION if self.openclip else openclip.HF_PROJECTION
        if quantised.is_beside(name):
            return None
        inner = name.removeprefix(self.prefix)
        own = (
            inner in openclip.OUTSIDE or inner.startswith(openclip.BLOCK) if self.openclip else inner.startswith(PARTS)
        )
        return inner if own and name.startswith(self.prefix) else None

    def caution(self) -> str | None:
        """A sentence where stored position ids are not 0, 1, 2, …: some tools cut them to integers and use them."""
        for file in self.files:
            for name in (name for name in file.entries if name.startswith(self.prefix) and name.endswith(POSITIONS)):
                (stored,) = file.read([name])
                numbers = stored.double().flatten().tolist()
                first = next((i for i, number in enumerate(numbers) if number != i), None)
                if first is not None:
                    return (
                        f"{file.path}: {name} has {numbers[first]:.6g} in place of {first}; the edit is made with 0 to "
                        f"{len(numbers) - 1}, and tools that read the stored ones see other text."
                    )
        return None


def find(
    family: streams.Family, path: Path, files: Sequence[SafeFile], given: Sequence[Path], width: int
) -> tuple[TextWeights, ...]:
    """The text encoders of a model, in the order in which their states stand side by side.

    Args:
        family: the kind of model.
        path: the model; what was not given is looked for there.
        files: those of its UNet; a single file holds everything.
        given: models, or text encoders (files or folders), in any order where their widths tell them apart.
        width: the d of the text that the matrices take.

    Raises:
        CheckpointError: one is missing, or their widths do not add up to `width`.
    """
    found = [text for source in given for text in _given(family, source)]
    texts = []
    for tower in family.towers:
        text = _taken(found, family, tower) or _of_model(tower, path, files)
        if text is None:
            where = f"{path} and {', '.join(map(str, given))} have" if given else f"{path} has"
            raise CheckpointError(
                f"{where} no text encoder {tower.name} ({tower.folder} in a folder, {tower.prefixes[0]}* in a file); "
                "give it with --text-encoder, once for each text encoder."
            )
        texts.append(text)
    if sum(text.width for text in texts) != width:
        parts = " + ".join(f"{text.width} ({text.source})" for text in texts)
        raise CheckpointError(
            f"{path} takes text of width {width} and the text encoder's width is {parts}; "
            "its parts come from different models."
        )
    return tuple(texts)


def missing(
    family: streams.Family, path: Path, files: Sequence[SafeFile], given: Sequence[Path]
) -> list[streams.Tower]:
    """The text encoders that neither a model nor what was given for it has; the arguments are those of `find`."""
    found = [text for source in given for text in _given(family, source)]
    return [tower for tower in family.towers if not (_taken(found, family, tower) or _of_model(tower, path, files))]


def fits(tower: streams.Tower, file: SafeFile, width: int) -> bool:
    """Whether a file is a text encoder alone, as wide, of CLIP's length, and in names that are read in this place."""
    try:
        text = _alone(tower, (file,), file.path)
    except CheckpointError:
        return False
    lengths = {entry["shape"][0] for name, entry in file.entries.items() if name.endswith(PLACES)}
    return text.width == width and CLIP_POSITIONS in lengths and (tower.openclip or not text.openclip)


def _taken(found: list[TextWeights], family: streams.Family, tower: streams.Tower) -> TextWeights | None:
    """Take what is for this tower out of `found`: by its name or its width, else the first in the order given."""
    known = {one.width for one in family.towers}
    for text in found:
        alone = text.prefix in ALONE
        fits = (not text.openclip or tower.openclip) and (text.width == tower.width or text.width not in known)
        if fits if alone else text.tower == tower:
            found.remove(text)
            return replace(text, tower=tower)
    return None


def _of_model(tower: streams.Tower, path: Path, files: Sequence[SafeFile]) -> TextWeights | None:
    """A text encoder in its place in a model; None where it is not there."""
    if not path.is_dir():
        prefix = layouts.tower_prefix(_names(files), tower)
        return None if prefix is None else TextWeights(tower, tuple(files), prefix, tower.openclip)
    folder = path / tower.folder
    if not folder.is_dir():
        return None
    # transformers, other than diffusers, prefers a whole file to shards.
    group = min(_copies(folder), key=lambda one: (one.stem not in USUAL, bool(one.variant), one.variant, one.sharded))
    return replace(_alone(tower, group.files, folder), tower=tower)


def _given(family: streams.Family, path: Path) -> list[TextWeights]:
    """Every text encoder in something that was given: in a whole model, or alone in a file or folder.

    Raises:
        CheckpointError: there is none.
    """
    files = () if path.is_dir() else (open_file(path),)
    found = [text for tower in family.towers if (text := _of_model(tower, path, files))]
    return found or [_alone(family.towers[0], files or _copies(path)[0].files, path)]


def _copies(folder: Path) -> list[Group]:
    found = groups(folder)
    if not found:
        raise CheckpointError(f"{folder} holds no .safetensors file; give a text encoder in that form.")
    return found


def _alone(tower: streams.Tower, files: tuple[SafeFile, ...], where: Path) -> TextWeights:
    names = _names(files)
    for mark, spelling in ((layouts.HF_MARK, False), (layouts.OPENCLIP_MARK, True)):
        for prefix in ALONE:
            if prefix + mark in names:
                return TextWeights(tower, files, prefix, spelling)
    raise CheckpointError(
        f"{where} has no CLIP text encoder ({layouts.HF_MARK} is missing); give a model, or one of its text encoders."
    )


def _names(files: Sequence[SafeFile]) -> set[str]:
    return {name for file in files for name in file.entries}
