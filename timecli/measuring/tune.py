"""λ for one manifest, found by drawing: the best trade-off, or a balance of two descriptions (Orgad et al. 2023, §6).

Both searches walk in log λ, start from how far prompts move in text space, and draw for no λ twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, harmonic_mean

import tomlkit
import torch

from timecli.drawing.render import render
from timecli.editing import compiling
from timecli.errors import ManifestError, explained
from timecli.manifests.manifest import Manifest, parse, same
from timecli.manifests.rows import rows as all_rows
from timecli.measuring.rivals import Change
from timecli.measuring.schedule import Configuration, Texts, worded
from timecli.measuring.studio import Studio
from timecli.measuring.tables import distance
from timecli.text.encoding import TextEncoder

OBJECTIVES = ("harmonic", "balance")
START = {"harmonic": 0.8, "balance": 0.5}
"""How far the sources should move in text space at the first λ."""
LEAST, MOST = -8.0, 8.0
"""log10 λ: where a search ends."""
CLOSE = 0.1
"""Δ_p at which the balance is found (appendix H.2)."""
TRIALS = 16


@dataclass(frozen=True)
class Trial:
    """What one λ gave: `score` is the harmonic mean, or the share of the balance's first description."""

    lam: float
    score: float


Try = Callable[[float], float]
"""λ -> score, by drawing."""


@dataclass
class Drawings:
    """What a λ gives, counted on pictures; `pictures` is how many were drawn."""

    studio: Studio
    manifest: Manifest
    encoder: TextEncoder
    device: torch.device
    pictures: int = 0

    def mean(self, lam: float) -> float:
        """Harmonic mean of generality and specificity."""
        rows = [row for row in all_rows(self.manifest) if row.kind in ("positive", "negative")]
        answers = self._answers(lam, [(row.prompt, (row.prompt, row.destination or "")) for row in rows])
        right = {
            kind: fmean(
                fmean(answer == wanted for answer in found)
                for row, found in zip(rows, answers, strict=True)
                if row.kind == kind
            )
            for kind, wanted in (("positive", 1), ("negative", 0))
        }
        return harmonic_mean(right.values())

    def share(self, lam: float) -> float:
        """How often the first description is drawn for the validation prompts."""
        assert self.manifest.balance is not None
        asked = [(prompt, worded(self.manifest, prompt)) for prompt in self.manifest.balance.validation]
        return fmean(answer == 0 for answers in self._answers(lam, asked) for answer in answers)

    def _answers(self, lam: float, asked: Sequence[tuple[str, Texts]]) -> list[list[int]]:
        wanted = Configuration(lam=lam).applied(self.manifest)
        change = Change(delta=compiling.compile_edit(wanted, self.encoder, self.device))
        prompts = list(dict.fromkeys(prompt for prompt, _ in asked))
        with self.studio.edited(change):
            images = render(self.studio.pipeline, prompts, self.studio.settings, lambda _: None)
        self.pictures += sum(map(len, images.values()))
        return [self.studio.judge.choose(images[prompt], texts) for prompt, texts in asked]


def rounded(exponent: float) -> float:
    """10 to that power, with three digits: what is written is what was tried."""
    return float(f"{10**exponent:.3g}")


def start(manifest: Manifest, encoder: TextEncoder, device: torch.device, share: float) -> float:
    """log10 of the λ at which the sources move this share of their way in text space; no picture is drawn."""
    low, high = LEAST, MOST
    for _ in range(12):
        middle = (low + high) / 2
        wanted = Configuration(lam=rounded(middle)).applied(manifest)
        operator = compiling.compile_edit(wanted, encoder, device).operator
        low, high = (middle, high) if fmean(compiling.moved(wanted, encoder, operator)) > share else (low, middle)
    return (low + high) / 2


def harmonic(first: float, attempt: Try, report: Callable[[Trial], None]) -> Trial:
    """The λ with the best score: uphill by factors of ten, then by half of that on both sides."""
    seen: dict[float, Trial] = {}

    def at(exponent: float) -> Trial:
        exponent = round(min(max(exponent, LEAST), MOST), 3)
        if exponent not in seen:
            lam = rounded(exponent)
            seen[exponent] = Trial(lam, attempt(lam))
            report(seen[exponent])
        return seen[exponent]

    best = first
    for step in (1.0, 0.5, 0.25):
        for direction in (-step, step):
            while at(best + direction).score > at(best).score:
                best += direction
    return at(best)


def balance(first: float, attempt: Try, report: Callable[[Trial], None], target: float, rises: bool) -> Trial:
    """The λ at which the share of the first description is as good as the target, by bisection.

    Args:
        first: log10 λ to begin with.
        attempt: λ -> share.
        report: called with every trial.
        target: the share that is wanted.
        rises: whether the share rises with λ, as it does where the edit is towards the second description.
    """
    low, high, exponent = LEAST, MOST, first
    best: Trial | None = None
    for _ in range(TRIALS):
        trial = Trial(rounded(exponent), attempt(rounded(exponent)))
        report(trial)
        if best is None or distance(trial.score, target) < distance(best.score, target):
            best = trial
        if distance(trial.score, target) < CLOSE:
            break
        up = (trial.score < target) == rises
        low, high = (exponent, high) if up else (low, exponent)
        # While one side is open, a factor of ten; then the middle.
        step = exponent + 1 if up and high == MOST else exponent - 1 if not up and low == LEAST else (low + high) / 2
        if abs(step - exponent) < 0.01 or not LEAST <= step <= MOST:
            break
        exponent = step
    assert best is not None
    return best


def rises(manifest: Manifest) -> bool:
    """Whether the edit is towards the balance's second description, whose opposite returns as λ grows.

    Raises:
        ManifestError: the manifest has no balance, or its edit goes to neither description.
    """
    if manifest.balance is None:
        raise ManifestError(f"{manifest.name} has no [balance]; add one with descriptions and a validation prompt.")
    if len(manifest.edits) > 1:
        raise ManifestError(f"{manifest.name} has several edits; a balance is for one.")
    for index, text in enumerate(manifest.balance.descriptions):
        if same(text, manifest.edits[0].destination):
            return index == 1
    raise ManifestError(
        f"{manifest.name}: balance.descriptions are {' and '.join(map(repr, manifest.balance.descriptions))}; one of "
        f"them must be the edit's destination, {manifest.edits[0].destination!r}."
    )


def require_tests(manifest: Manifest) -> None:
    """Refuse a manifest on which the harmonic mean cannot be measured."""
    for kind in ("positives", "negatives"):
        if not any(getattr(pair, kind) for pair in manifest.edits):
            raise ManifestError(f"{manifest.name} has no {kind}, and generality and specificity need both; add some.")


def written(manifest: Manifest, lam: float) -> str:
    """The manifest's text with another λ for all its edits; comments and order stay.

    Raises:
        ManifestError: it is written in a way in which that cannot be done.
    """
    way_out = "give it [solve] and [[edit]] tables"
    with explained(f"λ cannot be written into {manifest.name}", way_out, ManifestError):
        document = tomlkit.parse(manifest.text)
        document.setdefault("solve", tomlkit.table())["lambda"] = lam
        for pair in document["edit"]:
            pair.pop("lambda", None)
        text = tomlkit.dumps(document)
    wanted = replace(Configuration(lam=lam).applied(manifest), text=text)
    if parse(text, f"{manifest.name} with λ {lam:g}") != wanted:
        raise ManifestError(f"λ cannot be written into {manifest.name}; {way_out}.")
    return text
