"""Answers to tables: Tables 2 to 5 and 7 of Orgad et al. (2023) for any edits and any model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import StatisticsError, correlation, fmean, harmonic_mean
from typing import Any

import torch

from timecli.drawing import verify
from timecli.drawing.numbers import plain
from timecli.drawing.verify import PAPER, Score
from timecli.manifests.manifest import Manifest
from timecli.manifests.rows import LIKENESS, METRICS
from timecli.measuring import shares
from timecli.measuring.bench import Answers
from timecli.measuring.quality import Quality, Reference, measure
from timecli.measuring.schedule import BASE, Configuration, Job, tested
from timecli.measuring.shares import Shares
from timecli.shown import all_of, in_markdown, table_row

MEASURED = ("generality", "specificity")
"""What the paper's "Mean" is the harmonic mean of."""

HEAD = (*METRICS, "mean", "of three", *LIKENESS)
"""Columns of scores."""
MODELS = ("baseline", "oracle", "another seed", "edited")
"""Whose scores a configuration has."""
FILTER = 0.8
"""What the oracle must reach on the positive prompts for an edit to count in the filtered table (appendix D)."""

Scores = Mapping[str, Score]


@dataclass(frozen=True)
class Result:
    """What one edited model reached: by manifest, the scores of baseline, oracle and edited, or its shares."""

    job: Job
    scores: dict[str, verify.Scores]
    """Beside those of `verify.measure`, edited has kept and reached, and "another seed" is their yardstick."""
    balanced: dict[str, Shares]


def collect(
    work: Sequence[Job], answers: Answers, seen: Mapping[tuple[str, str], torch.Tensor] | None = None
) -> list[Result]:
    """Scores of every edited model, on the manifests that it was tested with."""
    found = []
    for job in work:
        own = [manifest for manifest in job.tested if not manifest.balance]
        scores = {manifest.name: _scores(manifest, job, answers, seen or {}) for manifest in own}
        balanced = {one.name: shares.measure(one, job.model, answers, job.crossed) for one in job.tested if one.balance}
        found.append(Result(job, scores, balanced))
    return found


def _scores(
    manifest: Manifest, job: Job, answers: Answers, seen: Mapping[tuple[str, str], torch.Tensor]
) -> verify.Scores:
    table, model = tested(manifest, job.manifest.edits), job.model
    scores = verify.measure(table, lambda p, q: answers[BASE, p, q], lambda p, q: answers[model, p, q])
    if seen:
        for name, found in verify.compared(table, lambda p: seen[BASE, p], lambda p: seen[model, p]).items():
            scores.setdefault(name, {}).update(found)
    return scores


def total(scores: Sequence[Scores]) -> dict[str, Score]:
    """Mean over the edits that have tests for a metric, for every seed."""
    names = (*METRICS, *LIKENESS)
    measured = {metric: [one[metric].per_seed for one in scores if metric in one] for metric in names}
    return {
        metric: Score(tuple(fmean(seed) for seed in zip(*per_edit, strict=True)))
        for metric, per_edit in measured.items()
        if per_edit
    }


def mean(scores: Scores) -> float:
    """Harmonic mean of generality and specificity."""
    return harmonic_mean([scores[metric].mean for metric in MEASURED if metric in scores])


def by_configuration(results: Sequence[Result]) -> dict[Configuration, list[Result]]:
    """Results that stand in one row."""
    found: dict[Configuration, list[Result]] = {}
    for result in results:
        found.setdefault(result.job.configuration, []).append(result)
    return found


def qualities(
    results: Sequence[Result], reference: Reference, pictures: Mapping[str, Sequence[tuple[float, str]]]
) -> dict[str, Quality]:
    """FID and CLIP Score of the unedited model and of every configuration, over the captions of all its edits."""
    models = {BASE: [BASE]}
    for configuration, found in by_configuration(results).items():
        models[configuration.name] = [result.job.model for result in found]
    drawn = {name: [one for model in own for one in pictures.get(model, ())] for name, own in models.items()}
    return {name: measure(reference, *zip(*found, strict=True)) for name, found in drawn.items()}


def _qualities(found: Mapping[str, Quality]) -> Iterator[str]:
    (eyes,) = {one.eyes for one in found.values()}
    yield from (table_row("", f"FID in {eyes} features", "CLIP Score"), "|---|---|---|")
    for name, one in found.items():
        yield table_row("baseline" if name == BASE else name, f"{one.fid:.2f}", f"{one.clip_score:.2f}")
    yield ""


def markdown(title: str, results: Sequence[Result], quality: Mapping[str, Quality] | None = None) -> str:
    """All tables as a page."""
    lines = [f"# {in_markdown(title)}", ""]
    if quality:
        lines += _qualities(quality)
    edits, balances = (any(getattr(one, kind) for one in results) for kind in ("scores", "balanced"))
    measured = {
        configuration: [(one.job, one.balanced) for one in found]
        for configuration, found in by_configuration(results).items()
    }
    if edits:
        names = set(filtered(results))
        count = len({name for result in results for name in result.scores})
        lines += _totals(results, all_of(count, "edit").capitalize())
        if 0 < len(names) < count:
            lines += _totals(_only(results, names), f"Of these, the {len(names)} whose oracle reaches {FILTER:.0%}")
    lines += shares.summary(measured) if balances else []
    lines += _edits(results) if edits else []
    lines += shares.tables(measured) if balances else []
    return "\n".join(lines).rstrip() + "\n"


def data(results: Sequence[Result], quality: Mapping[str, Quality] | None = None) -> dict[str, Any]:
    """All tables as plain data: of every configuration the scores of the whole and of every edit, and its balances."""
    rows = []
    for configuration, own in by_configuration(results).items():
        models = {which: found for which in MODELS if (found := merged(own, which))}
        rows.append(
            {
                "name": configuration.name,
                "scores": plain({which: total(found) for which, found in models.items()}),
                "edits": {name: plain(scores) for result in own for name, scores in result.scores.items()},
                "balances": {name: asdict(found) for result in own for name, found in result.balanced.items()},
            }
        )
    return {"configurations": rows, "quality": {name: asdict(one) for name, one in (quality or {}).items()}}


def filtered(results: Sequence[Result]) -> list[str]:
    """The manifests on whose positive prompts the oracle is right often enough, given the destination."""
    first = next(iter(by_configuration(results).values()))
    oracles = {name: scores["oracle"] for result in first for name, scores in result.scores.items()}
    return [name for name, scores in oracles.items() if "generality" in scores and scores["generality"].mean >= FILTER]


def _only(results: Sequence[Result], names: set[str]) -> list[Result]:
    kept = [replace(r, scores={n: s for n, s in r.scores.items() if n in names}) for r in results]
    return [result for result in kept if result.scores]


def merged(found: Sequence[Result], which: str) -> list[Scores]:
    """The scores of baseline, oracle, edited or another seed, edit by edit."""
    return [scores[which] for result in found for scores in result.scores.values() if which in scores]


def _totals(results: Sequence[Result], title: str) -> Iterator[str]:
    rows = by_configuration(results)
    first = next(iter(rows.values()))
    yield from (f"**{title}**", "")
    yield table_row("", *HEAD, "correlation with the oracle")
    yield "|---" * (len(HEAD) + 2) + "|"
    for name in ("baseline", "oracle", "another seed"):
        if merged(first, name):
            yield table_row(name, *_cells(total(merged(first, name))), "")
    for configuration, found in rows.items():
        cells = _cells(total(merged(found, "edited")))
        yield table_row(configuration.name, *cells, _correlation(merged(found, "oracle"), merged(found, "edited")))
    yield ""
    yield "Mean ± standard deviation over the seeds; *mean* is the harmonic mean of generality and specificity, *of"
    yield "three* with efficacy; *explicit* is the share of prompts with another value that keep it; *kept* and"
    yield "*reached* are the mean cosines to the unedited model's and to the oracle's picture of the same seed, in the"
    yield "judge's features, with another seed's as the yardstick; the correlation is Pearson's between the generality"
    yield "of oracle and edit, over the edits."
    yield ""


def _edits(results: Sequence[Result]) -> Iterator[str]:
    for configuration, found in by_configuration(results).items():
        yield f"## {configuration.name}"
        yield ""
        yield table_row("edit", "oracle's generality", *HEAD)
        yield "|---" * (len(HEAD) + 2) + "|"
        for result in found:
            for name, scores in result.scores.items():
                oracle = scores["oracle"].get("generality")
                yield table_row(in_markdown(name), f"{oracle.mean:.1%}" if oracle else "-", *_cells(scores["edited"]))
        yield ""


def _correlation(oracle: Sequence[Scores], edited: Sequence[Scores]) -> str:
    pairs = [
        (a["generality"].mean, b["generality"].mean) for a, b in zip(oracle, edited, strict=True) if "generality" in b
    ]
    try:
        return f"{correlation(*zip(*pairs, strict=True)):.2f}"
    except (StatisticsError, TypeError):  # too few edits, or an oracle that is always right
        return "-"


def _cells(scores: Scores) -> list[str]:
    shown = [f"{scores[m].mean:.1%} ± {scores[m].std:.1%}" if m in scores else "-" for m in METRICS]
    shown += [f"{mean(scores):.1%}" if any(m in scores for m in MEASURED) else "-"]
    shown += [f"{verify.mean(scores):.1%}" if all(m in scores for m in PAPER) else "-"]
    return [*shown, *(f"{scores[m].mean:.3f}" if m in scores else "-" for m in LIKENESS)]
