"""Where the text encoders of a diffusion transformer are: in its folder, in its file, or in files of their own.

Their configs and tokenizers come from a diffusers folder; their weights may lie elsewhere, as user interfaces keep
them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from timecli.errors import CheckpointError
from timecli.files.foreign import read_config
from timecli.files.safefile import SafeFile, open_file, require_finite, require_floats
from timecli.models import layouts
from timecli.models.streams import Family, Tower, tokenizer_of
from timecli.models.variants import groups

if TYPE_CHECKING:
    import torch

TABLES = ("embed_tokens.weight", "token_embedding.weight", "shared.weight")
"""How the name of a table of token embeddings ends, `[vocabulary, width]`."""
WIDTHS = ("hidden_size", "d_model")
"""How configs call a text encoder's width."""
TEXT_ALONE = ("model.layers.", "model.embed_tokens.", "model.norm.")
"""How the names of a language model begin in a file that has no other part."""
WHOLE = "text_encoders."
"""How the names of text encoders begin in a file that holds a whole model."""
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

    @property
    def size(self) -> int:
        """Bytes of the weights in memory, where fp8 takes two."""
        entries = [entry for file in self.files for name, entry in file.entries.items() if name.startswith(self.prefix)]
        spans = [(*entry["data_offsets"], 2 if entry["dtype"].startswith("F8") else 1) for entry in entries]
        return sum((stop - start) * times for start, stop, times in spans)

    def is_seen(self, name: str) -> bool:
        """Whether a state can depend on a tensor."""
        projection = name.startswith("text_projection.") and not self.tower.model.endswith("WithProjection")
        return not projection and UNSEEN.isdisjoint(name.split("."))

    def read(self) -> dict[str, torch.Tensor]:
        """Its tensors by transformers' names, in their stored dtypes; the weights stay on disk until they are used.

        Raises:
            CheckpointError: a weight is NaN or infinite, or quantised in a way that is not read here.
        """
        weights: dict[str, torch.Tensor] = {}
        for file in self.files:
            names = [name for name in file.entries if name.startswith(self.prefix)]
            require_floats(file, (name for name in names if not name.endswith("position_ids")))
            for name, tensor in zip(names, file.mapped(names), strict=True):
                require_finite(tensor, f"{file.path}: {name}")
                inner = name.removeprefix(self.prefix)
                weights[self.tower.inner + inner if inner.startswith(TEXT_ALONE) else inner] = tensor
        return weights


def find(
    family: Family,
    path: Path,
    files: Sequence[SafeFile],
    given: Sequence[Path],
    config: Path | None,
) -> tuple[EncoderFiles, ...]:
    """The text encoders of a diffusion transformer, in the order of the family's table.

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
            "folder as --config."
        )
    sources = [source for one in given for source in _sources(one, family)]
    found = tuple(_found(tower, path, [*sources, tuple(files)], config) for tower in family.towers)
    used = {file.path for text in found for file in text.files}
    for source in sources:
        if source[0].path not in used:
            raise CheckpointError(
                f"{source[0].path} is none of the text encoders of {path}, whose configs are in {config}; their widths "
                f"are {' and '.join(str(_width(text.folder / 'config.json')) for text in found)}."
            )
    return found


def _sources(given: Path, family: Family) -> list[tuple[SafeFile, ...]]:
    """The text encoders, or the whole model, in something that was given."""
    if not given.is_dir():
        return [(open_file(given),)]
    folders = [given / tower.folder for tower in family.towers if (given / tower.folder).is_dir()]
    return [own[0].files for folder in folders or [given] if (own := groups(folder))]


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
        for prefix in ("", *tower.prefixes):
            if any(_table(file, prefix) == width for file in files):
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
    listed = read_config(config / "model_index.json").get(tower.folder)
    known = {one.model for family in layouts.TRANSFORMERS for one in family.towers}
    return replace(tower, model=listed[1]) if isinstance(listed, list) and listed[-1] in known else tower


def _width(config: Path) -> int | None:
    """The width that a config names, of its text where it has several parts."""
    about = read_config(config)
    about = about["text_config"] if isinstance(about.get("text_config"), dict) else about
    return next((about[key] for key in WIDTHS if isinstance(about.get(key), int)), None)


def _table(file: SafeFile, prefix: str) -> int | None:
    """The width of the table of token embeddings behind a prefix; behind none, where the file is not a whole model."""
    names = [name for name in file.entries if name.startswith(prefix) and name.endswith(TABLES)]
    alone = [name for name in names if prefix or not name.startswith(WHOLE)]
    return int(file.entries[alone[0]]["shape"][-1]) if alone else None
