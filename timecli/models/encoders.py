"""Where the text encoders of a diffusion transformer are: in its folder, in its file, or in files of their own.

Their configs and tokenizers come from a diffusers folder; their weights may lie elsewhere, as user interfaces keep
them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from timecli.errors import CheckpointError
from timecli.files import quantised
from timecli.files.code import INDEX
from timecli.files.foreign import read_config
from timecli.files.safefile import ITEMSIZES, SafeFile, open_file
from timecli.models import configs, layouts
from timecli.models.openclip import HF_PROJECTION
from timecli.models.streams import GIVE, Family, Tower, tokenizer_of
from timecli.models.variants import groups, other_weights

if TYPE_CHECKING:
    import torch

TABLES = ("embed_tokens.weight", "token_embedding.weight", "shared.weight")
"""How the name of a table of token embeddings ends, `[vocabulary, width]`."""
TEXT_ALONE = ("model.layers.", "model.embed_tokens.", "model.norm.")
"""How the names of a language model begin in a file that has no other part."""
WEIGHTS = ("weight", "bias")
"""How the names of parameters end; a tokenizer that a file carries has another."""
LAYER = re.compile(r"(?:^|\.)layers\.(\d{1,6})\.")
NORM = re.compile(r"(?:^|\.)norm\.weight$")
"""A layer of a language model, and the norm behind the last of them."""
UNSEEN = {"visual", "vision_tower", "multi_modal_projector", "lm_head", "position_ids", "logit_scale"}
"""Parts of a text encoder that no state depends on; one form of it has them, and another has not."""


@dataclass(frozen=True)
class EncoderFiles:
    """Where a text encoder is.

    Attributes:
        tower: which one it is.
        folder: has its config.
        tokenizer: the folder of its tokenizer.
        files: its weights.
        prefix: what stands before their names.
    """

    tower: Tower
    folder: Path
    tokenizer: Path
    files: tuple[SafeFile, ...]
    prefix: str = ""

    @cached_property
    def layers(self) -> int | None:
        """How many layers the text goes through; None for all, with the norm behind them."""
        total = configs.of_text(read_config(self.folder / "config.json")).get("num_hidden_layers")
        return layers(self.tower, total) if isinstance(total, int) else None

    @property
    def size(self) -> int:
        """Bytes of the weights in memory: all have the dtype of the first, and two bytes in place of fp8."""
        entries = [file.entries[name] for file in self.files for name in self._taken(file)]
        wide = next((ITEMSIZES[entry["dtype"]] for entry in entries if entry["dtype"] in ITEMSIZES), 1)
        return sum(math.prod(entry["shape"]) * max(wide, 2) for entry in entries)

    def is_seen(self, name: str) -> bool:
        """Whether a state can depend on a tensor."""
        return is_seen(name, self.tower, self.layers)

    def is_behind(self, name: str) -> bool:
        """Whether a tensor is of a layer, or the norm, behind those that the text goes through."""
        return _is_behind(name, self.layers)

    def _taken(self, file: SafeFile) -> list[str]:
        """The tensors of a file that are read: of what no state depends on those that a model is built with."""
        cut = self.tower.layers > 0
        inner = {
            name: name.removeprefix(self.prefix)
            for name in file.entries
            if name.startswith(self.prefix) and not quantised.is_beside(name)
        }
        return [
            name
            for name, own in inner.items()
            if self.is_seen(own) or (file.entries[name]["dtype"] in ITEMSIZES and not (cut and self.is_behind(own)))
        ]

    def read(self) -> dict[str, torch.Tensor]:
        """Its tensors by transformers' names, in their stored dtypes; the weights stay on disk until they are used.

        Beside fp8 that has a factor stands the factor, and `quantised.numbers` says what both are.

        Raises:
            CheckpointError: a weight is NaN or infinite, or quantised in a way that is not read here.
        """
        names = {name for file in self.files for name in self._taken(file)}
        found = quantised.tensors(self.files, names, GIVE, lambda name: self.is_seen(name.removeprefix(self.prefix)))
        return self._projected({self._renamed(name.removeprefix(self.prefix)): tensor for name, tensor in found})

    def _renamed(self, inner: str) -> str:
        """The name that a tensor has in transformers."""
        return self.tower.inner + inner if inner.startswith(TEXT_ALONE) else inner

    def _projected(self, weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The tensors with the projection that a loader puts in the place of a missing one."""
        return self.unprojected(weights) if self.tower.identity and HF_PROJECTION not in weights else weights

    def unprojected(self, weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The tensors with the identity as projection, where it can be one."""
        about = read_config(self.folder / "config.json")
        width = about.get("hidden_size")
        if about.get("projection_dim") != width:
            return weights
        import torch  # which is loaded, since there are tensors

        return {**weights, HF_PROJECTION: torch.eye(int(width or 0))}


def layers(tower: Tower, total: int) -> int | None:
    """How many of a text encoder's layers the text goes through; None for all, with the norm behind them."""
    if not tower.layers or total <= tower.layers:
        return None
    return tower.layers if tower.layers > 0 else total + tower.layers


def is_seen(name: str, tower: Tower, layers: int | None) -> bool:
    """Whether a state can depend on a tensor, by its name without a prefix."""
    projection = name.startswith("text_projection.") and not tower.model.endswith("WithProjection")
    parts = name.split(".")
    return parts[-1] in WEIGHTS and not projection and UNSEEN.isdisjoint(parts) and not _is_behind(name, layers)


def _is_behind(name: str, layers: int | None) -> bool:
    if layers is None or not UNSEEN.isdisjoint(name.split(".")):
        return False
    number = LAYER.search(name)
    return int(number[1]) >= layers if number else bool(NORM.search(name))


def find(
    family: Family,
    path: Path,
    files: Sequence[SafeFile],
    given: Sequence[Path],
    config: Path | None,
) -> tuple[EncoderFiles, ...]:
    """The text encoders of a diffusion transformer, in the order of the family's table; optional ones may be nowhere.

    Args:
        family: the kind of model.
        path: the model.
        files: those of its network; a single file may hold everything.
        given: text encoders, or whole models, in any order: their widths tell them apart.
        config: the diffusers folder with configs and tokenizers, and with the weights that are nowhere else.

    Raises:
        CheckpointError: a config, a tokenizer or the weights of one are missing, or what was given is another one.
    """
    if config is None:
        raise CheckpointError(
            f"{path} is {family.name}, whose text encoders need their configs and tokenizers; give its diffusers "
            "folder, with a model_index.json, as --config."
        )
    others = [source for one in given for source in sources(one, family)]
    everything = [*others, tuple(files)]
    towers = [one for one in family.towers if not one.optional or _is_somewhere(one, everything, config)]
    found = tuple(_found(tower, path, everything, config) for tower in towers)
    used = {file.path for text in found for file in text.files}
    for source in others:
        if source[0].path not in used:
            raise CheckpointError(
                f"{source[0].path} is none of the text encoders of {path}, whose configs are in {config}; their widths "
                f"are {' and '.join(str(_width(text.folder / 'config.json')) for text in found)}."
            )
    return found


def sources(given: Path, family: Family) -> list[tuple[SafeFile, ...]]:
    """The text encoders, or the whole model, in something that was given."""
    if not given.is_dir():
        return [(open_file(given),)]
    folders = [given / tower.folder for tower in family.towers if (given / tower.folder).is_dir()]
    return [own[0].files for folder in folders or [given] if (own := groups(folder))]


def _is_somewhere(tower: Tower, sources: Sequence[tuple[SafeFile, ...]], config: Path) -> bool:
    """Whether there are weights of a text encoder, of whatever form; a folder whose index lists none is not read."""
    folder = config / tower.folder
    if not (folder / "config.json").exists():
        return False
    inside = any(_of_source(tower, files, _width(folder / "config.json")) is not None for files in sources)
    listed = read_config(config / INDEX).get(tower.folder) != [None, None]
    return inside or (listed and bool(groups(folder) or other_weights(folder)))


def _of_source(tower: Tower, files: Sequence[SafeFile], width: int | None) -> str | None:
    """What stands before the names of a text encoder in some files; None where it is not there."""
    prefixes = (*tower.prefixes, "")
    return next((prefix for prefix in prefixes if any(_table(file, prefix) == width for file in files)), None)


def _found(tower: Tower, path: Path, sources: Sequence[tuple[SafeFile, ...]], config: Path) -> EncoderFiles:
    folder, tokenizer = config / tower.folder, config / tokenizer_of(tower.folder)
    for needed in (folder / "config.json", tokenizer):
        if not needed.exists():
            raise CheckpointError(
                f"{path} needs {needed}, of its text encoder {tower.name}; complete the folder, or give another as "
                "--config."
            )
    width, tower = _width(folder / "config.json"), _as_listed(tower, config)
    for files in sources:
        if (prefix := _of_source(tower, files, width)) is not None:
            return EncoderFiles(tower, folder, tokenizer, files, prefix)
    own = groups(folder)
    if not own:
        raise CheckpointError(
            f"{path} has no text encoder {tower.name} ({folder} holds no .safetensors file); give it with "
            "--text-encoder, once for each text encoder."
        )
    return EncoderFiles(tower, folder, tokenizer, own[0].files)


def _as_listed(tower: Tower, config: Path) -> Tower:
    """The tower as a folder's index lists it: another class that is known here may stand in its place."""
    listed = read_config(config / INDEX).get(tower.folder)
    known = {one.model for family in layouts.TRANSFORMERS for one in family.towers}
    return replace(tower, model=listed[1]) if isinstance(listed, list) and listed[-1] in known else tower


def _width(config: Path) -> int | None:
    """The width that a config file names."""
    return configs.width(read_config(config))


def _table(file: SafeFile, prefix: str) -> int | None:
    """The width of the table of token embeddings behind a prefix; behind none, where the file is not a whole model."""
    names = [name for name in file.entries if name.startswith(prefix) and name.endswith(TABLES)]
    alone = [name for name in names if prefix or not name.startswith(layouts.TEXTS[:-1])]
    return int(file.entries[alone[0]]["shape"][-1]) if alone else None
