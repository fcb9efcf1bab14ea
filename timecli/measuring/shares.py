"""How often a balance's first description is drawn: Tables 3 and 7 of Orgad et al. (2023), and what stays explicit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, pstdev

from timecli.drawing import verify
from timecli.manifests import balances
from timecli.manifests.balances import distance
from timecli.manifests.manifest import Manifest
from timecli.measuring.bench import Answers
from timecli.measuring.schedule import BASE, Configuration, Job, tested
from timecli.shown import all_of, in_markdown, table_row

SPLITS = 3
"""Parts of the seeds over which Δ_p has a mean and a deviation (appendix H.2)."""


@dataclass(frozen=True)
class Balanced:
    """How often one of two descriptions was drawn: F_p, and Δ_p for parts of the seeds (§6.3)."""

    share: float
    deltas: tuple[float, ...]


@dataclass(frozen=True)
class Shares:
    """What became of one balance.

    Attributes:
        before: of the unedited model.
        oracle: of the unedited model that is told one description by chance in every picture.
        after: of the edited model.
        explicit: of the prompts that name a description, the share of pictures that keep it, before and after; None
            where no prompt does.
        moved: how far other balances went from the unedited model's share on their validation prompts, on average
            (Figure 10); None where they were not drawn.
    """

    before: Balanced
    oracle: Balanced
    after: Balanced
    explicit: tuple[float, float] | None
    moved: float | None = None


Measured = Sequence[tuple[Job, Mapping[str, Shares]]]
"""Every edited model of one configuration, and the balances that it was measured with, by the manifests' names."""


def measure(manifest: Manifest, model: str, answers: Answers, crossed: Sequence[Manifest] = ()) -> Shares:
    """The shares of a balance, drawn by the unedited model, the oracle and an edited model; what that did to others."""
    assert manifest.balance is not None
    prompts = balances.counted(manifest.balance)
    before, after = (balanced(manifest, prompts, name, answers) for name in (BASE, model))
    named = verify.measure(tested(manifest), lambda p, q: answers[BASE, p, q], lambda p, q: answers[model, p, q])
    kept = (named["baseline"]["explicit"].mean, named["edited"]["explicit"].mean) if named["edited"] else None
    return Shares(before, oracle(manifest, prompts, answers), after, kept, _moved(crossed, model, answers))


def _moved(crossed: Sequence[Manifest], model: str, answers: Answers) -> float | None:
    drawn = [(one, one.balance.validation) for one in crossed if one.balance]
    went = [
        abs(balanced(one, prompts, model, answers).share - balanced(one, prompts, BASE, answers).share)
        for one, prompts in drawn
    ]
    return fmean(went) if went else None


def balanced(manifest: Manifest, prompts: Sequence[str], model: str, answers: Answers) -> Balanced:
    """F of the first description over some prompts, and Δ for each part of the seeds."""
    return counted(manifest, [answers[model, prompt, balances.worded(manifest, prompt)] for prompt in prompts])


def oracle(manifest: Manifest, prompts: Sequence[str], answers: Answers) -> Balanced:
    """The same of the unedited model, for every picture with the prompt that names the description it is asked for."""
    assert manifest.balance is not None
    target = manifest.balance.target
    drawn = []
    for prompt in prompts:
        pair = balances.worded(manifest, prompt)
        told = [answers[BASE, text, pair] for text in pair]
        drawn.append([told[balances.asked(prompt, seed, target)][seed] for seed in range(len(told[0]))])
    return counted(manifest, drawn)


def counted(manifest: Manifest, answers: Sequence[Sequence[int]]) -> Balanced:
    """F and Δ from 0 or 1 for every prompt and seed."""
    assert manifest.balance is not None
    per_seed = [fmean(answer == 0 for answer in seed) for seed in zip(*answers, strict=True)]
    parts = [part for i in range(SPLITS) if (part := per_seed[i::SPLITS])]
    return Balanced(fmean(per_seed), tuple(distance(fmean(part), manifest.balance.target) for part in parts))


def summary(rows: Mapping[Configuration, Measured]) -> Iterator[str]:
    """Δ over all balances, of baseline, oracle and every configuration (Table 3)."""
    first = _all(next(iter(rows.values())))
    yield from (f"**{all_of(len(first), 'balance').capitalize()}**", "")
    yield from (table_row("", "Δ", "explicit", "others moved by"), "|---|---|---|---|")
    kept = _explicit(first, 0)
    yield table_row("baseline", _overall([one.before for one in first]), kept, "-")
    yield table_row("oracle", _overall([one.oracle for one in first]), kept, "-")
    for configuration, found in rows.items():
        own = _all(found)
        yield table_row(configuration.name, _overall([one.after for one in own]), _explicit(own, 1), _others(own))
    yield ""
    yield "Mean ± standard deviation over three parts of the seeds; the *oracle* is the unedited model, asked for one"
    yield "of the two descriptions by chance in every picture; *explicit* is the share of pictures that show the"
    yield "description which their prompt names, of prompts that no edit should change; *others moved by* is how far"
    yield "the shares of other balances go from the baseline's on their prompts of validation, on average, with"
    yield "`--cross`."
    yield ""


def tables(rows: Mapping[Configuration, Measured]) -> Iterator[str]:
    """Every balance, in a table for each configuration (Table 7)."""
    for configuration, found in rows.items():
        yield from _table(configuration, found)


def _table(configuration: Configuration, found: Measured) -> Iterator[str]:
    yield f"## {configuration.name}, share of the first description"
    yield ""
    tuned = "strength" if configuration.method == "everyday" else "λ"
    head = ("edit", "baseline F", "baseline Δ", "oracle F", "oracle Δ", tuned, "edited F", "edited Δ")
    yield table_row(*head, "explicit before", "after")
    yield "|---" * (len(head) + 2) + "|"
    for job, measured in found:
        values = {one.name: _tuned(configuration, one) for one in job.tested}
        for name, one in measured.items():
            sides = [f"{side.share:.1%} | {spread(side.deltas)}" for side in (one.before, one.oracle, one.after)]
            kept = (_explicit([one], 0), _explicit([one], 1))
            yield table_row(in_markdown(name), *sides[:2], values[name], sides[2], *kept)
    own = _all(found)
    every = [[one.before for one in own], [one.oracle for one in own], [one.after for one in own]]
    means = [f"**{_overall(side)}**" for side in every]
    yield table_row("**all**", "", means[0], "", means[1], "", "", means[2], _explicit(own, 0), _explicit(own, 1))
    yield ""


def _tuned(configuration: Configuration, manifest: Manifest) -> str:
    """What `timecli tune` searches, of a manifest with one edit."""
    applied = configuration.applied(manifest)
    find = applied.strength if configuration.method == "everyday" else applied.lam
    found = {find(edit) for edit in applied.edits}
    return f"{found.pop():g}" if len(found) == 1 else "several"


def _all(found: Measured) -> list[Shares]:
    return [one for _, measured in found for one in measured.values()]


def _overall(found: Sequence[Balanced]) -> str:
    """Δ: the mean of Δ_p over all balances, for each part of the seeds."""
    return spread([fmean(part) for part in zip(*(one.deltas for one in found), strict=True)])


def spread(parts: Sequence[float]) -> str:
    """Mean and deviation, as tables have them."""
    return f"{fmean(parts):.2f} ± {pstdev(parts):.2f}"


def _explicit(found: Sequence[Shares], side: int) -> str:
    """Before or after, the mean over the balances that have such prompts."""
    known = [one.explicit[side] for one in found if one.explicit]
    return f"{fmean(known):.1%}" if known else "-"


def _others(found: Sequence[Shares]) -> str:
    known = [one.moved for one in found if one.moved is not None]
    return f"{fmean(known):.3f}" if known else "-"
