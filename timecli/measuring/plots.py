"""A bench as pictures: the trade-off of generality and specificity, every edit, and what edits do to each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path

from matplotlib.figure import Figure

from timecli.files.writing import write_bytes
from timecli.measuring import tables
from timecli.measuring.bench import Answers
from timecli.measuring.schedule import BASE
from timecli.measuring.shares import balanced
from timecli.measuring.tables import Result
from timecli.shown import harmless

WIDE = (8.0, 5.0)
DARK = 0.3
"""How far from one half a share is drawn in a colour on which black cannot be read."""


def save(folder: Path, results: Sequence[Result], answers: Answers) -> list[Path]:
    """Write every plot for which there are numbers."""
    figures = {}
    if any(result.scores for result in results):
        figures = {"tradeoff.png": tradeoff(results), "edits.png": bars(results)}
    if (found := crossed(results, answers)) is not None:
        figures["cross.png"] = found
    for name, figure in figures.items():
        content = BytesIO()
        figure.savefig(content, format="png", dpi=120, metadata={"Software": None})
        write_bytes(folder / name, content.getvalue())
    return [folder / name for name in figures]


def tradeoff(results: Sequence[Result]) -> Figure:
    """Specificity against generality: a line for what differs in λ only, whose points say their λ (Figure 7)."""
    figure = Figure(figsize=WIDE, layout="constrained")
    axes = figure.add_subplot(xlabel="generality", ylabel="specificity", xlim=(0, 1.02), ylim=(0, 1.02))
    rows = tables.by_configuration(results)
    first = next(iter(rows.values()))
    lines = {name: [("", tables.total(tables.merged(first, name)))] for name in ("baseline", "oracle")}
    for configuration, found in rows.items():
        label = "" if configuration.lam is None else f"{configuration.lam:g}"
        line = lines.setdefault(replace(configuration, lam=None).name, [])
        line.append((label, tables.total(tables.merged(found, "edited"))))
    for name, points in lines.items():
        shown = [(label, scores) for label, scores in points if measured(scores)]
        xs, ys = ([scores[metric].mean for _, scores in shown] for metric in tables.MEASURED)
        axes.plot(xs, ys, "o-", label=name, markersize=4, linewidth=1)
        for (label, _), x, y in zip(shown, xs, ys, strict=True):
            axes.annotate(label, (x, y), textcoords="offset points", xytext=(4, 3), fontsize=6)
    axes.legend(fontsize=7)
    axes.grid(alpha=0.3)
    return figure


def measured(scores: tables.Scores) -> bool:
    """Whether there are both numbers."""
    return all(metric in scores for metric in tables.MEASURED)


def bars(results: Sequence[Result]) -> Figure:
    """Generality and specificity of every edit, for the first configuration."""
    found = next(iter(tables.by_configuration(results).values()))
    edits = {name: scores["edited"] for result in found for name, scores in result.scores.items()}
    figure = Figure(figsize=(WIDE[0], 1 + 0.28 * len(edits)), layout="constrained")
    axes = figure.add_subplot(xlim=(0, 1), xlabel=found[0].job.configuration.name)
    for offset, metric in ((-0.2, "generality"), (0.2, "specificity")):
        values = [scores[metric].mean if metric in scores else 0.0 for scores in edits.values()]
        axes.barh([i + offset for i in range(len(edits))], values, 0.4, label=metric)
    axes.set_yticks(range(len(edits)), list(edits), fontsize=7)
    axes.invert_yaxis()
    axes.legend(fontsize=7)
    return figure


def crossed(results: Sequence[Result], answers: Answers) -> Figure | None:
    """Share of the first description that each edited model draws for each validation prompt (Figure 10)."""
    first = results[0].job.configuration if results else None
    jobs = [result.job for result in results if result.job.configuration == first]
    manifests = [job.manifest for job in jobs if job.manifest.balance]
    if not manifests or not all(len(job.crossed) + 1 >= len(manifests) > 1 for job in jobs):
        return None
    shares = [
        [balanced(m, m.balance.validation, model, answers).share for m in manifests if m.balance]
        for model in (BASE, *(job.model for job in jobs))
    ]
    figure = Figure(figsize=(WIDE[0], WIDE[0]), layout="constrained")
    axes = figure.add_subplot(xlabel="drawn", ylabel="edited")
    image = axes.imshow(shares, vmin=0, vmax=1, cmap="RdBu")
    drawn = [harmless(manifest.edits[0].source) for manifest in manifests]
    edited = [harmless(job.manifest.edits[0].source) for job in jobs]
    # A prompt with two "$" is no formula.
    axes.set_xticks(range(len(drawn)), drawn, rotation=90, fontsize=7, parse_math=False)
    axes.set_yticks(range(len(edited) + 1), ["nothing", *edited], fontsize=7, parse_math=False)
    for y, row in enumerate(shares):
        for x, share in enumerate(row):
            ink = "white" if abs(share - 0.5) > DARK else "black"
            axes.text(x, y, f"{100 * share:.0f}", ha="center", va="center", fontsize=7, color=ink)
    figure.colorbar(image, label="share of the first description", shrink=0.8)
    return figure
