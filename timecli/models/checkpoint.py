"""Models on disk: what they are, and where in their files the tensors are that an edit needs.

A single file holds everything; a diffusers folder holds files per component, perhaps in several variants or shards.
Either way a `Checkpoint` says where the maps that read text and the text encoders are, and reads nothing else.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from timecli.errors import CheckpointError, ManifestError
from timecli.files import code, foreign
from timecli.files.parts import real
from timecli.files.quantised import numbers, require_floats
from timecli.files.safefile import SafeFile, require_finite
from timecli.manifests import records
from timecli.models import classes, encoders, layouts, streams, towers, unets
from timecli.models.encoders import EncoderFiles
from timecli.models.maps import channels
from timecli.models.streams import POOLED, TEXT
from timecli.models.towers import TextWeights
from timecli.models.variants import Group

if TYPE_CHECKING:
    import torch

Need = Literal["prompts", "fingerprints", "nothing"]
"""What a command does with a model's text encoders."""
EDITS = "timecli.edits"
"""Metadata key: JSON list of the edits that a checkpoint carries, the first made first."""


@dataclass(frozen=True)
class Place:
    """Where a map that reads text is: a tensor of a file.

    A `twin` is another copy of the same matrix, edited from its own weights: a moving average (EMA) in a single file,
    or another copy of the UNet in a folder.
    """

    matrix: streams.Matrix
    file: SafeFile
    name: str
    twin: bool

    @property
    def key(self) -> tuple[Path, str]:
        """File and tensor name."""
        return self.file.path, self.name

    @property
    def where(self) -> str:
        """How errors call it."""
        return f"{self.file.path}: {self.name}"


@dataclass(frozen=True)
class Checkpoint:
    """A model on disk.

    Attributes:
        path: the file or the folder.
        family: what kind of model it is.
        places: the maps that read text, from the input to the output, twins behind them.
        texts: the text encoders, in the order in which their states stand side by side.
        config: a diffusers folder with configs and tokenizers, or None.
        channels: how many the UNet takes: 4, with an image to fill in 9, with one to follow 8.
        copies: the copies of the UNet that are edited; the first is the one that diffusers loads.
        left_out: files of a folder that hold the UNet and are not edited; a copy of the folder goes without them.
        cautions: sentences that a user should see.
        encoders: the text encoders of a diffusion transformer, which diffusers reads.
        metrics: what `forecast.metric` has summed.
    """

    path: Path
    family: streams.Family
    places: tuple[Place, ...]
    texts: tuple[TextWeights, ...]
    config: Path | None
    channels: int
    copies: tuple[Group, ...]
    left_out: tuple[Path, ...] = ()
    cautions: tuple[str, ...] = ()
    encoders: tuple[EncoderFiles, ...] = ()
    metrics: dict[Any, torch.Tensor] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def is_folder(self) -> bool:
        """Whether this is a diffusers folder."""
        return self.path.is_dir()

    @property
    def width(self) -> int:
        """The d of the text's states."""
        return self.shape(self.places[0].matrix)[-1]

    def shape(self, matrix: streams.Matrix) -> tuple[int, ...]:
        """`[out, d]` of a map."""
        place = next(place for place in self.places if place.matrix == matrix)
        return tuple(place.file.entries[place.name]["shape"])

    def width_of(self, stream: str) -> int:
        """The d of a stream: as wide as its first map, of which text may be a part that the text encoder tells."""
        first = next(matrix for matrix in self.family.matrices if matrix.stream == stream)
        return self.texts[-1].projected if first.leading and self.texts else self.shape(first)[-1]

    @property
    def edits(self) -> list[dict[str, Any]]:
        """Records of the timecli edits that the model carries.

        Raises:
            CheckpointError: its files carry different ones, so that what is edited depends on the loader.
        """
        files = list({place.file.path: place.file for place in self.places}.values())
        records = edits(files[0])
        for file in files[1:]:
            if edits(file) != records:
                raise CheckpointError(
                    f"{files[0].path} and {file.path} carry different timecli edits, so what a tool draws depends on "
                    "the file that it takes; start from the original, or use --leave-ema if one is a moving average."
                )
        return records

    def beside_config(self, name: str) -> Path | None:
        """A file or folder in the folder of configs; None where it is not there."""
        path = self.config / name if self.config is not None else None
        return path if path is not None and path.exists() else None

    def text_encoders(self) -> list[dict[str, torch.Tensor]]:
        """The tensors of each text encoder; fp8 with factors in float32 for SD 1, 2 and XL, else in bfloat16."""
        import torch  # which is loaded, since there are tensors

        others = [dict(numbers(text.read(), torch.bfloat16)) for text in self.encoders]
        return [*(text.read() for text in self.texts), *others]

    def norm(self) -> torch.Tensor | None:
        """The weight `[d]` of the norm that the text goes through before its map; None for no norm."""
        if self.family.norm is None:
            return None
        place = self.places[0]
        name = place.name.removesuffix(place.matrix.names[0]) + self.family.norm[0]
        file, _ = self.copies[0].entries[name]
        (weight,) = file.read([name])
        return weight

    def projections(
        self, twins: bool = True, streams: Collection[str] = (TEXT, POOLED)
    ) -> Iterator[tuple[Place, torch.Tensor]]:
        """Every map of some streams `[out, d]` in its stored dtype."""
        wanted = [place for place in self.places if (twins or not place.twin) and place.matrix.stream in streams]
        for _, group in groupby(wanted, key=lambda place: place.file.path):
            places = list(group)
            for place, tensor in zip(places, places[0].file.read(place.name for place in places), strict=True):
                require_finite(tensor, place.where)
                yield place, tensor


def edits(file: SafeFile) -> list[dict[str, Any]]:
    """Records of the timecli edits that a file carries."""
    try:
        return records.edits(file.metadata.get(EDITS, "[]"))
    except (ValueError, ManifestError) as error:
        detail = str(error).rstrip(".")
        raise CheckpointError(
            f"{file.path} has a damaged record of its edits ({EDITS} in its metadata: {detail}); its tensors may be "
            "sound, so take that entry out of a copy's metadata."
        ) from error


def open_checkpoint(
    path: Path,
    config: Path | None = None,
    text_encoder: Sequence[Path] = (),
    ema: bool = True,
    needs: Need = "prompts",
) -> Checkpoint:
    """Find out what a model is.

    Args:
        path: a single file, a diffusers folder, or the folder of a UNet.
        config: a diffusers folder for tokenizers and configs; by default the folder itself, or one named `config`
            beside a single file; else the same of the text encoder.
        text_encoder: other models, or text encoders, for a model that has none; one for each that is missing.
        ema: whether moving averages are edited too.
        needs: what its text encoders are for: to read prompts, for their fingerprints, or nothing. A model without them
            is refused, but for a diffusion transformer whose fingerprints are asked for: they may be elsewhere.

    Raises:
        CheckpointError: it is not a model of a known family in safetensors form, or a folder asks for code.
    """
    for folder in filter(None, [path, config, *text_encoder]):
        foreign.require_no_cache(folder)
    try:
        return _opened(path, config, text_encoder, ema, needs)
    except CheckpointError as error:
        home = real(path if path.is_dir() else path.parent).parent
        if config or text_encoder or not (home / code.INDEX).is_file() or (path / code.INDEX).exists():
            raise
        raise CheckpointError(f"{path} is one part of a model; give the whole folder, {home}.") from error


def _opened(path: Path, config: Path | None, text_encoder: Sequence[Path], ema: bool, needs: Need) -> Checkpoint:
    """`open_checkpoint`, of what is no folder of the hub's cache."""
    if config is None:
        nearby = [path, path.parent / "config"]
        nearby += [folder for given in text_encoder for folder in (given, given.parent / "config", given.parent)]
        config = next((folder for folder in nearby if (folder / code.INDEX).exists()), None)
    elif not (config / code.INDEX).exists():
        raise CheckpointError(f"{config} has no model_index.json; --config takes a diffusers folder.")
    for folder in dict.fromkeys([path, *([config] if config else []), *text_encoder]):
        code.require_none(folder)
    found = unets.find(path, ema)
    first = found.copies[0]
    family, places = _places(first, str(path), False)
    if path.is_dir() and any((path / name).is_dir() for name in unets.NETWORKS if name != family.network):
        raise CheckpointError(
            f"{path} is {family.name}, whose network belongs into a folder {family.network}, and has another in place "
            "of it; no loader finds it there."
        )
    places += _averages(places) if ema and not path.is_dir() else []
    for copy in found.copies[1:]:
        places += _places(copy, str(copy.files[0].path), True)[1]
    for place in places:
        require_floats(place.file, [place.name])
    width = first.shapes[places[0].name][-1]
    family = classes.of_config(family, config, width, needs != "nothing")
    texts: tuple[TextWeights, ...] = ()
    others: tuple[EncoderFiles, ...] = ()
    if needs != "nothing" and family.by_pipeline:
        try:
            others = encoders.find(family, path, first.files, text_encoder, config)
        except CheckpointError:  # whoever applies an edit may have them elsewhere, or not at all
            if needs == "prompts" or text_encoder:
                raise
    elif needs != "nothing":
        texts = towers.find(family, path, first.files, text_encoder, width)
    taken = channels(family, first.shapes)
    return Checkpoint(
        path, family, tuple(places), texts, config, taken, found.copies, found.left_out, found.cautions, others
    )


def _places(group: Group, where: str, twin: bool) -> tuple[streams.Family, list[Place]]:
    shapes = group.shapes
    if shapes.keys() == {"left", "right"}:
        raise CheckpointError(f"{where} is a delta, not a model; give the model that it is for.")
    family, prefix, spelling = layouts.find(shapes, where)
    names = {prefix + matrix.names[spelling]: matrix for matrix in family.matrices}
    home = {name: file for name, (file, _) in group.entries.items() if name in names}
    return family, [Place(matrix, home[name], name, twin) for name, matrix in names.items()]


def _averages(places: Iterable[Place]) -> list[Place]:
    return [
        Place(place.matrix, place.file, name, True)
        for place in places
        for name in layouts.twins(place.matrix)
        if name in place.file.entries
    ]
