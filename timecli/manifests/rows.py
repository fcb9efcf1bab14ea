"""The prompts of a manifest that are looked at, edit by edit, forecast or drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from timecli.manifests.keys import Edit
from timecli.manifests.manifest import Manifest, folded
from timecli.manifests.words import names, same_things, says_all, speaks_of, thing

KINDS = {"positive": "positives", "negative": "negatives", "explicit": "explicit"}
"""What a test prompt is, and where an edit has it."""
TOLD = "told"
"""What another pair of the same solve edits: no negative of anyone."""
BALANCE = "balance"
"""What a balance counts on: a prompt that should show either of two descriptions, as often as the target says."""
FOLLOW = ("source", "positive")
"""Kinds that should show the destination; the others should stay as they are."""
METRICS = {"efficacy": "source", "generality": "positive", "specificity": "negative", "explicit": "explicit"}
"""Each metric and the kind of prompt that it looks at."""
FOLLOWED = ("efficacy", "generality", "reached")
"""Metrics of what should show the destination."""
LIKENESS = ("kept", "reached")
"""Mean cosines to the pictures that are wanted, of what should stay and of what should follow."""
COSINES = ("kept", "worst", "reached")
"""The same, and the least of any everyday prompt, for which `verify` draws some."""
OTHERS = "choose other"
"""What helps where the unedited model misses a threshold, too, and no edit does."""
EVERYDAY = 8
"""Everyday prompts that are looked at beside a manifest's own, and as many of those that are forecast to move most."""


@dataclass(frozen=True)
class Row:
    """A prompt to look at; a sample has no destination.

    Attributes:
        kind: "source", "positive", "negative", "explicit"; "told" for a negative or explicit prompt that another pair
            of the same solve edits; "sample" and "everyday"; "balance", whose destination is the first description.
        counts: whether it is known what should become of it. A sample that names a source may follow it or stay, and
            what another pair edits goes where that pair says.
        against: the text that the judge holds against the destination, where it is not the prompt itself.
    """

    kind: str
    prompt: str
    destination: str | None
    counts: bool = True
    against: str | None = None

    @property
    def oracle(self) -> str | None:
        """What the unedited model is asked for instead, where the destination is wanted (Orgad et al. 2023, §5.5)."""
        return self.destination if self.kind in FOLLOW else None


def rows(manifest: Manifest, beside: Sequence[Edit] = ()) -> list[Row]:
    """Every prompt of the manifest, edit by edit, and its samples; `beside` are all edits of its solve."""
    together, found = [*manifest.edits, *beside], []
    for edit in manifest.edits:
        found.append(Row("source", edit.source, edit.destination))
        others = [other for other in together if folded(other.source) != folded(edit.source)]
        for kind, where in KINDS.items():
            for test in getattr(edit, where):
                told = _told(kind, test.prompt, others)
                found.append(Row(TOLD if told else kind, test.prompt, test.destination, not told))
    named = names(*(edit.source for edit in manifest.edits))
    return [*found, *(Row("sample", prompt, None, not speaks_of(prompt, named)) for prompt in manifest.verify.prompts)]


def of_part(table: Sequence[Row], part: Manifest, manifest: Manifest) -> list[Row]:
    """The rows of one manifest of a joint edit, and the everyday ones, which are everyone's."""
    own = {*rows(part, manifest.edits)}
    return [row for row in table if row in own or row.kind == "everyday"]


def untested(manifest: Manifest, table: Sequence[Row]) -> list[str]:
    """A sentence for every threshold of shares that no row measures, since other pairs edit the prompts that would."""
    found = []
    for part in manifest.parts or (manifest,):
        kinds = {row.kind for row in (of_part(table, part, manifest) if manifest.parts else table)}
        found += [
            f"{metric} of {part.name} is not measured: other pairs edit all its {kind} prompts."
            for metric, kind in METRICS.items()
            if getattr(part.verify, metric) is not None and kind not in kinds
        ]
    return found


def _told(kind: str, prompt: str, others: Sequence[Edit]) -> bool:
    """Whether other edits of the same solve are told to move a prompt that should stay.

    A neighbour is, where it names what they change: "a sketch of a tulip" beside an edit of tulips. What a prompt says
    in so many words counts before that, so that an explicit prompt is only where it is their source itself.
    """
    if kind == "negative":
        return any(says_all(prompt, thing(other)) for other in others)
    return kind == "explicit" and any(same_things(prompt, other.source) for other in others)


def everyday_rows(prompts: Sequence[str], table: Sequence[Row], moving: Sequence[str] = ()) -> list[Row]:
    """Some everyday prompts, evenly from the list: those that should stay, being in no row and about no source.

    Args:
        prompts: the list.
        table: the other rows.
        moving: prompts of the list that come first, since they move most.
    """
    known = {folded(text) for row in table for text in (row.prompt, row.destination or "")}
    named = names(*(row.prompt for row in table if row.kind in (*FOLLOW, BALANCE)))
    free = [prompt for prompt in prompts if prompt and folded(prompt) not in known and not speaks_of(prompt, named)]
    places = (i * len(free) // EVERYDAY for i in range(EVERYDAY))
    chosen = dict.fromkeys([*moving, *(free[place] for place in places if free)])
    return [Row("everyday", prompt, None) for prompt in chosen]


def figure(metric: str, value: float) -> str:
    """A metric's value as people read it: a share in percent, a cosine with three digits."""
    return f"{value:.3f}" if metric in COSINES else f"{value:.1%}"


def below(
    metric: str,
    value: float,
    wanted: float,
    name: str,
    *,
    unedited: float | None = None,
    worst: str | None = None,
    remedy: str | None = None,
) -> str:
    """The sentence for a threshold of a manifest that is not reached, with what raises the metric.

    Args:
        metric: one of `METRICS` or `COSINES`.
        value: what the edited model has.
        wanted: the threshold.
        name: the manifest's.
        unedited: what the unedited model has, of what should follow when it is asked for the destination. No edit is
            asked for more.
        worst: the everyday prompt that changes most.
        remedy: what to do, where that is known better.
    """
    if remedy is None and unedited is not None and unedited < wanted:
        remedy = _beyond(metric, value, unedited)
    if remedy is None:
        remedy = _remedy(metric, worst)
    return f"{metric} is {figure(metric, value)}, below the {figure(metric, wanted)} that {name} asks for; {remedy}."


def _remedy(metric: str, worst: str | None) -> str:
    """What raises a metric."""
    if metric in FOLLOWED:
        return "add pairs, or raise the strength"
    if metric != "worst":
        return "preserve more by name, or lower the strength"
    first = (
        f"{worst!r} changes most: preserve it by name, or list it as a positive if it may follow; or " if worst else ""
    )
    return f"{first}raise preserve.everyday_weight, or lower the strength"


def _beyond(metric: str, value: float, unedited: float) -> str:
    """What to do about a threshold that the unedited model does not reach, either."""
    kind = {"efficacy": "destinations", "generality": "positives", "specificity": "negatives"}.get(metric, "prompts")
    where = ", asked for the destination," if metric in FOLLOWED else ""
    too = ", too" if value >= unedited else " at most"
    return f"the unedited model{where} has {figure(metric, unedited)}{too}: {OTHERS} {kind}, or lower the threshold"
