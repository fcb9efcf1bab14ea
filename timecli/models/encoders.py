"""Where the text encoders of a diffusion transformer are: in its folder, in its file, or in files of their own.

Their configs and tokenizers come from a diffusers folder; their weights may lie elsewhere, as user interfaces keep
them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from timecli.errors import CheckpointError
from timecli.files.foreign import read_config
from timecli.files.safefile import SafeFile, open_file, require_finite, require_floats
from timecli.models.streams import Family, Tower
from timecli.models.variants import groups

if TYPE_CHECKING:
    import torch

TABLES = ("embed_tokens.weight", "token_embedding.weight", "shared.weight")
"""How the name of a table of token embeddings ends, `[vocabulary, width]`."""
WIDTHS = ("hidden_size", "d_model")
"""How configs call a text encoder's width."""


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
        """Bytes of the weights."""
        entries = [entry for file in self.files for name, entry in file.entries.items() if name.startswith(self.prefix)]
        return sum(stop - start for start, stop in (entry["data_offsets"] for entry in entries))

    def read(self) -> dict[str, torch.Tensor]:
        """Its tensors by transformers' names, in their stored dtypes; the weights stay on disk until they are used.

        Raises:
            CheckpointError: a weight is NaN or infinite, or quantised in a way that is not read here.
        """
        weights: dict[str, torch.Tensor] = {}
        for file in self.files:
            names = [name for name in file.entries if name.startswith(self.prefix)]
            require_floats(file, (name for name in names if not name.endswith("position_ids")))
            for name, tensor in zip(names, file.read(names), strict=True):
                require_finite(tensor, f"{file.path}: {name}")
                weights[name.removeprefix(self.prefix)] = tensor
        return weights


def find(
    family: Family, path: Path, files: Sequence[SafeFile], given: Sequence[Path], config: Path | None
) -> tuple[EncoderFiles, ...]:
    """The text encoders of a diffusion transformer, in the order of the family's table.

    Args:
        family: the kind of model.
        path: the model.
        files: those of its network; a single file may hold everything.
        given: files of text encoders, in any order: their widths tell them apart.
        config: the diffusers folder with configs and tokenizers, and with the weights that are nowhere else; None
            finds none.

    Raises:
        CheckpointError: a config, a tokenizer or the weights of one are missing.
    """
    if config is None:
        return ()
    singles = [open_file(one) for one in given if not one.is_dir()]
    return tuple(_found(tower, path, files, singles, config) for tower in family.towers)


def _found(
    tower: Tower, path: Path, files: Sequence[SafeFile], singles: Sequence[SafeFile], config: Path
) -> EncoderFiles:
    folder, tokenizer = config / tower.folder, config / tower.folder.replace("text_encoder", "tokenizer")
    for needed in (folder / "config.json", tokenizer):
        if not needed.exists():
            raise CheckpointError(
                f"{path} needs {needed}, of its text encoder {tower.name}; complete the folder, or give another as "
                "--config."
            )
    width = _width(folder / "config.json")
    for single in singles:
        if _table(single, "") == width:
            return EncoderFiles(tower, folder, tokenizer, (single,))
    for prefix in tower.prefixes:
        if any(_table(file, prefix) == width for file in files):
            return EncoderFiles(tower, folder, tokenizer, tuple(files), prefix)
    own = groups(folder)
    if not own:
        raise CheckpointError(
            f"{path} has no text encoder {tower.name} ({folder} holds no .safetensors file); give it with "
            "--text-encoder, once for each text encoder."
        )
    return EncoderFiles(tower, folder, tokenizer, own[0].files)


def _width(config: Path) -> int | None:
    """The width that a config names, of its text where it has several parts."""
    about = read_config(config)
    inner = about.get("text_config")
    about = inner if isinstance(inner, dict) else about
    return next((about[key] for key in WIDTHS if isinstance(about.get(key), int)), None)


def _table(file: SafeFile, prefix: str) -> int | None:
    """The width of the table of token embeddings in a file."""
    for name, entry in file.entries.items():
        if name.startswith(prefix) and name.endswith(TABLES):
            return int(entry["shape"][-1])
    return None
