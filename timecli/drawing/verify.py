"""Did the edit do what it should, and nothing else? Counted on pictures before and after, judged."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, harmonic_mean, pstdev

from PIL.Image import Image

from timecli.drawing.judge import Judge
from timecli.drawing.likeness import Seen, measured, yardstick
from timecli.manifests.manifest import Manifest
from timecli.manifests.rows import COSINES, FOLLOW, FOLLOWED, METRICS, Row, below

PAPER = ("efficacy", "generality", "specificity")
"""The metrics of Orgad et al. (2023), §5.4, of which there is a mean."""

Images = Mapping[str, Sequence[Image]]
Ask = Callable[[str, tuple[str, str]], Sequence[int]]
"""What was drawn for a prompt, and (prompt, destination) -> 0 or 1 per picture: which of the two it shows."""


@dataclass(frozen=True)
class Score:
    """A share of images, for every seed."""

    per_seed: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean over the seeds."""
        return fmean(self.per_seed)

    @property
    def std(self) -> float:
        """Standard deviation over the seeds."""
        return pstdev(self.per_seed)


Scores = dict[str, dict[str, Score]]
"""baseline, oracle, edited -> metric -> score."""


def prompts_before(table: Sequence[Row]) -> list[str]:
    """What the unedited model draws: every prompt, and the destinations that are wanted, as the oracle."""
    oracle = [row.oracle for row in table if row.oracle]
    return list(dict.fromkeys([*(row.prompt for row in table), *oracle]))


def prompts_after(table: Sequence[Row]) -> list[str]:
    """What the edited model draws."""
    return list(dict.fromkeys(row.prompt for row in table))


def demanded(manifest: Manifest) -> list[str]:
    """The metrics that the manifest, or one of a joint edit, has thresholds for."""
    asked = [part.verify for part in manifest.parts or (manifest,)]
    return [metric for metric in (*METRICS, *COSINES) if any(getattr(one, metric) is not None for one in asked)]


def measure(table: Sequence[Row], before: Ask, after: Ask) -> Scores:
    """The metrics of Orgad et al. (2023, §5.4) with the oracle and baseline of §5.5, and explicit.

    The share of images that the judge takes for the destination (source and positive prompts) or for the prompt itself
    (negative and explicit prompts), against the other of the two. The oracle is the unedited model, given the
    destination where the destination is wanted.

    Args:
        table: the prompts, of which samples are left out.
        before: the unedited model's pictures, judged.
        after: the edited model's.
    """
    return {
        "baseline": counted(table, before),
        "oracle": counted(table, before, lambda row: row.oracle or row.prompt),
        "edited": counted(table, after),
    }


def counted(table: Sequence[Row], ask: Ask, drawn: Callable[[Row], str] = lambda row: row.prompt) -> dict[str, Score]:
    """Each metric that has rows, on the pictures of one model; `drawn` is the prompt that it was given for a row."""
    found = {}
    for metric, kind in METRICS.items():
        wanted = 1 if kind in FOLLOW else 0
        answers = [ask(drawn(row), (row.prompt, row.destination or "")) for row in table if row.kind == kind]
        if answers:
            per_seed = (fmean(answer == wanted for answer in seed) for seed in zip(*answers, strict=True))
            found[metric] = Score(tuple(per_seed))
    return found


def mean(scores: Mapping[str, Score]) -> float:
    """Harmonic mean of the paper's metrics, of those that were measured."""
    return harmonic_mean([score.mean for metric, score in scores.items() if metric in PAPER])


def measured_by(judge: Judge, table: Sequence[Row], before: Images, after: Images) -> Scores:
    """Everything that a judge can say of the pictures before and after."""
    scores = measure(table, judge.asked(before), judge.asked(after))
    for name, found in compared(table, judge.seeing(before), judge.seeing(after)).items():
        scores.setdefault(name, {}).update(found)
    return scores


def compared(table: Sequence[Row], before: Seen, after: Seen) -> dict[str, dict[str, Score]]:
    """Kept and reached of the edited model, and of the unedited one with another seed, as the yardstick."""
    edited = {name: Score(found) for name, found in measured(table, before, after).items()}
    other = {name: Score(found) for name, found in yardstick(table, before).items()}
    return {"edited": edited, **({"another seed": other} if other else {})}


def missed(
    manifest: Manifest, edited: Mapping[str, Score], scores: Scores | None = None, worst: str | None = None
) -> list[str]:
    """Sentences for the manifest's thresholds that the edit does not reach.

    Args:
        manifest: whose thresholds.
        edited: the edited model's scores.
        scores: the unedited model's, baseline and oracle, of which it is told where they do not reach them, either.
        worst: the everyday prompt that changed most.
    """
    sentences = []
    for metric in demanded(manifest):
        wanted: float = getattr(manifest.verify, metric)
        if metric in edited and edited[metric].mean < wanted:  # where nothing everyday is drawn there is no worst
            unedited = (scores or {}).get("oracle" if metric in FOLLOWED else "baseline", {}).get(metric)
            limit = unedited.mean if unedited else None
            sentences.append(below(metric, edited[metric].mean, wanted, manifest.name, unedited=limit, worst=worst))
    return sentences
