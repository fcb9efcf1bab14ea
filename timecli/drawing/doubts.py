"""Where the numbers say little: the unedited model itself does not draw what the edit goes to.

No edit of a model's text adds what the model cannot draw. The metrics do not see that: a green blot passes for a green
dragon where the judge chooses between "a dragon" and "a green dragon" alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import fmean

from timecli.drawing.judge import Judge
from timecli.drawing.verify import Images
from timecli.manifests.rows import Row
from timecli.manifests.values import GENDERED, GENDERS
from timecli.manifests.words import names

HALF = 0.5
"""Share of the pictures that show the destination, below which the unedited model does not draw it."""
LOST = 0.25
"""Share of the destination's pictures that show the source's thing rather than an everyday one, below which the model
does not know the thing. Of all sources in `edits/picturebook` it is .5 to 1; of a dragon, a unicorn, a wolf, a giraffe
and a volcano, which picturebook never saw, it is 0 (2 seeds, 4 steps)."""


def doubts(table: Sequence[Row], judge: Judge, before: Images) -> list[str]:
    """A sentence for every source whose destination the unedited model does not draw when it is asked for it.

    Args:
        table: the prompts; the everyday ones are what else a picture may show.
        judge: tells texts apart.
        before: the unedited model's pictures, by prompt.
    """
    everyday = [row.prompt for row in table if row.kind == "everyday"]
    found: dict[str, None] = {}
    for row in table:
        if row.kind == "source" and row.destination:
            sentence = _doubt(row.prompt, row.destination, _others(row.destination, everyday), judge, before)
            found.update({sentence: None} if sentence else {})
    return list(found)


def _doubt(source: str, destination: str, others: Sequence[str], judge: Judge, before: Images) -> str:
    """The sentence for one pair; empty where there is no doubt."""
    pictures = before[destination]
    asked = f"asked for {destination!r}, the unedited model"
    shown = fmean(judge.choose(pictures, (source, destination)))
    if shown < HALF:
        return f"{asked} draws it in {shown:.0%} of its pictures; an edit cannot add what the model does not draw."
    chosen = Counter(judge.choose(pictures, (source, *others)))
    share, (most, _) = chosen[0] / len(pictures), chosen.most_common(1)[0]
    if share >= LOST:
        return ""
    return (
        f"{asked} draws what the judge takes for {others[most - 1]!r} rather than for {source!r}; the model may not "
        "know these words, and then the numbers say nothing."
    )


def _others(destination: str, everyday: Sequence[str]) -> list[str]:
    """Everyday prompts that are something else than a destination: "a woman" is not, beside "a female CEO"."""
    if not names(destination) & {*GENDERS}:
        return list(everyday)
    return [prompt for prompt in everyday if not names(prompt) & GENDERED]
