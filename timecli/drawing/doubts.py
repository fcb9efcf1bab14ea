"""Where the numbers say little: the unedited model itself does not draw what the edit goes to.

No edit of a model's text adds what the model cannot draw. The metrics do not see that: a green blot passes for a green
dragon where the judge chooses between "a dragon" and "a green dragon" alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import fmean, median, quantiles

from timecli.drawing.judge import Judge
from timecli.drawing.likeness import between_seeds
from timecli.drawing.verify import Images
from timecli.manifests.rows import Row
from timecli.manifests.values import ADDED, GENDERED
from timecli.manifests.words import names, says_all

HALF = 0.5
"""Share of the pictures that show the destination, below which the unedited model does not draw it."""
LOST = 0.25
"""Share of the destination's pictures that show the source's thing rather than an everyday one, below which the model
does not know the thing. Of all sources in `edits/picturebook` it is .5 to 1; of a dragon, a unicorn, a wolf, a giraffe
and a volcano, which picturebook never saw, it is 0 (2 seeds, 4 steps)."""
BADLY = 2.0
"""How many standard deviations below the everyday prompts' a CLIP score is of pictures that fit their prompt badly. No
destination in `edits/picturebook` is so low, and most words that picturebook never saw are: a roze, a giraffe, a rainy
street (31 and 25 pairs, 2 to 4 seeds, 4 to 20 steps)."""
FEW = 4
"""Everyday prompts without which that cannot be told."""
LEAST = 0.04
"""Standard deviation, as a share of the median, that scores are taken to have at least: of a few short prompts they can
be nearly the same."""
QUARTILES = 1.349
"""Standard deviations between the quartiles of a normal distribution, which one bad picture does not change."""


def doubts(table: Sequence[Row], judge: Judge, before: Images) -> list[str]:
    """A sentence for every source whose destination the unedited model does not draw when it is asked for it.

    Args:
        table: the prompts; the everyday ones are what else a picture may show.
        judge: tells texts apart.
        before: the unedited model's pictures, by prompt.
    """
    everyday = [row.prompt for row in table if row.kind == "everyday"]
    scores = [_score(prompt, judge, before) for prompt in everyday]
    found: dict[str, None] = {}
    for row in table:
        if row.kind == "source" and row.destination:
            others = _others(row.destination, everyday)
            sentence = _doubt(row, row.destination, others, judge, before) or _fit(
                row.destination, scores, judge, before
            )
            found.update({sentence: None} if sentence else {})
    return list(found)


def _doubt(row: Row, destination: str, others: Sequence[str], judge: Judge, before: Images) -> str:
    """The sentence for one pair; empty where there is no doubt."""
    source, pictures = row.prompt, before[destination]
    asked = f"asked for {destination!r}, the unedited model"
    shown = fmean(judge.choose(pictures, (source, destination)))
    if shown - fmean(judge.choose(before[source], (source, destination))) < HALF and _alike(row, judge, before):
        return (
            f"the unedited model draws {source!r} and {destination!r} alike: it draws the destination anyhow, or does "
            "not know these words, and the numbers say little."
        )
    if shown < HALF:
        return f"{asked} draws it in {shown:.0%} of its pictures; an edit cannot add what the model does not draw."
    own = (source,) if says_all(destination, names(source)) else (source, destination)  # another thing is drawn anew
    texts = (*own, *others)
    chosen = Counter(texts[choice] for choice in judge.choose(pictures, texts))
    most, _ = chosen.most_common(1)[0]
    if sum(chosen[text] for text in own) / len(pictures) >= LOST:
        return ""
    return (
        f"{asked} draws what the judge takes for {most!r} rather than for {source!r}; the model may not "
        "know these words, and then the numbers say nothing."
    )


def _alike(row: Row, judge: Judge, before: Images) -> bool:
    """Whether source and destination, from the same seeds, are as alike as one of them is from two seeds."""
    seen = judge.seeing(before)
    apart = [between_seeds(Row("negative", prompt, None), seen) for prompt in (row.prompt, row.destination or "")]
    both = (seen(row.prompt) * seen(row.destination or "")).sum(1).mean()
    return any(cosines is not None and float(both) >= fmean(cosines) for cosines in apart)


def _fit(destination: str, everyday: Sequence[float], judge: Judge, before: Images) -> str:
    """The sentence for a destination whose pictures fit it far worse than everyday pictures fit theirs."""
    if len(everyday) < FEW:
        return ""
    low, _, high = quantiles(everyday, method="inclusive")
    score, usual = _score(destination, judge, before), median(everyday)
    if score >= usual - BADLY * max((high - low) / QUARTILES, LEAST * usual):
        return ""
    return (
        f"asked for {destination!r}, the unedited model draws pictures that fit these words badly (CLIP score "
        f"{score:.0f}; of everyday prompts {usual:.0f}); it may not know the words, and then the numbers say nothing."
    )


def _score(prompt: str, judge: Judge, before: Images) -> float:
    """CLIP score of the unedited model's pictures of a prompt."""
    return fmean(judge.described(before[prompt], [prompt] * len(before[prompt]))[0])


def _others(destination: str, everyday: Sequence[str]) -> list[str]:
    """Everyday prompts that are something else than a destination: "a woman" is not, beside "a female CEO"."""
    if not names(destination) & ADDED:
        return list(everyday)
    return [prompt for prompt in everyday if not names(prompt) & GENDERED]
