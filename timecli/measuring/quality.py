"""How good pictures are, whatever they show: CLIP Score and FID against reference pictures (appendix C).

FID is taken in the features of the judge, which is there anyway, or of Inception, whose numbers can be compared with
those of other papers.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
from PIL import Image

from timecli.drawing.judge import Judge
from timecli.errors import CheckpointError, explained
from timecli.files.foreign import read_json, require_file
from timecli.measuring.inception import Inception
from timecli.shown import amount

INDEX = "metadata.jsonl"
"""A line for every picture of a reference folder: file_name and text, as Hugging Face's image folders have it."""
BATCH, LEAST = 64, 2
JUDGE, INCEPTION = "the judge's", "Inception's"
"""Whose features a FID is taken in."""
LONG, SHORT = "<f4", "<f2"
"""How features are kept: of captions' pictures for FID, and of all others for cosines."""


@dataclass(frozen=True)
class Reference:
    """Reference pictures.

    Attributes:
        captions: their texts.
        features: what the judge or Inception sees in them, `[n, d]` float32.
        digest: SHA-256 of captions, picture files, and Inception's file.
        eyes: whose features they are.
    """

    captions: tuple[str, ...]
    features: torch.Tensor
    digest: str = ""
    eyes: str = JUDGE


@dataclass(frozen=True)
class Quality:
    """FID against the reference, the mean CLIP Score, and in whose features the FID is."""

    fid: float
    clip_score: float
    eyes: str = JUDGE


def captions(folder: Path) -> dict[str, Path]:
    """Captions of a reference folder and their pictures; of equal captions the first counts.

    Raises:
        CheckpointError: it has no index, or a line of it is wrong.
    """
    index = folder / INDEX
    found: dict[str, Path] = {}
    if index.exists():
        require_file(index, CheckpointError)
    try:
        lines = index.read_bytes().decode("utf-8").rstrip("\n").split("\n")
    except OSError as error:
        raise CheckpointError(
            f"{index} cannot be read: {error.strerror}; --reference takes an image folder."
        ) from error
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{index} is not UTF-8 text (byte {error.start}); save it as UTF-8.") from error
    for number, line in enumerate(lines, 1):
        try:
            row = read_json(line)
            text, path = str(row["text"]), folder / Path(row["file_name"]).name
        except (ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"{index}, line {number} must be JSON with file_name and text.") from error
        if not path.exists():
            raise CheckpointError(f"{index}, line {number}: {path.name} is not in the folder.")
        require_file(path, CheckpointError)
        found.setdefault(text, path)
    if len(found) < LEAST:
        raise CheckpointError(
            f"{index} has {amount(len(found), 'caption')}; FID needs {LEAST} at least, and is steady from thousands."
        )
    return found


def load(folder: Path, judge: Judge, inception: Inception | None = None) -> Reference:
    """A reference folder, as Inception sees it, or the judge where there is no Inception."""
    found = captions(folder)
    texts, paths = list(found), list(found.values())
    parts, digest = [], hashlib.sha256()
    for text, path in found.items():
        digest.update(f"{text}\n{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    for first in range(0, len(paths), BATCH):
        images = [_opened(path) for path in paths[first : first + BATCH]]
        parts.append(described(images, texts[first : first + BATCH], judge, inception)[1])
    digest.update(inception.digest.encode() if inception else b"")
    return Reference(tuple(texts), torch.cat(parts), digest.hexdigest(), INCEPTION if inception else JUDGE)


def described(
    images: Sequence[Image.Image], texts: Sequence[str], judge: Judge, inception: Inception | None
) -> tuple[list[float], torch.Tensor]:
    """CLIP Score of every picture with its text, and features `[n, d]` float32 of Inception's or of the judge's."""
    scores, features = judge.described(images, texts)
    return scores, features if inception is None else inception.seen(images, judge.model.device)


def _opened(path: Path) -> Image.Image:
    with explained(f"{path} cannot be read as a picture"):
        return Image.open(path).convert("RGB")


def packed(features: torch.Tensor, dtype: str = LONG) -> str:
    """Features as text: `LONG` keeps every bit, `SHORT` three digits."""
    return base64.b64encode(features.numpy().astype(dtype).tobytes()).decode()


def unpacked(text: str, dtype: str = LONG) -> torch.Tensor:
    """The numbers again, in one row, float32."""
    return torch.from_numpy(np.frombuffer(base64.b64decode(text), dtype).astype(np.float32))


def measure(reference: Reference, scores: Sequence[float], features: Sequence[str]) -> Quality:
    """FID (Heusel et al. 2017) of some pictures' features, and the mean of their CLIP Scores."""
    from torchmetrics.image.fid import FrechetInceptionDistance

    seen = torch.nn.Identity()
    seen.num_features = reference.features.shape[1]  # type: ignore[assignment]
    metric = FrechetInceptionDistance(feature=seen)
    metric.update(reference.features, real=True)
    metric.update(torch.stack([unpacked(row) for row in features]), real=False)
    return Quality(float(metric.compute()), fmean(scores), reference.eyes)
