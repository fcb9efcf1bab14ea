"""How results and progress look on a terminal; plain text where there is none."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from timecli.errors import TimecliError

if TYPE_CHECKING:  # types only: the commands import what they need when they run
    from timecli.encode import TextEncoder
    from timecli.manifest import Edit, Manifest


def console(stderr: bool = False) -> Console:
    """A console of the terminal's width, or wide enough for tensor names where there is no terminal."""
    found = Console(stderr=stderr)
    return found if found.is_terminal else Console(stderr=stderr, width=140)


def say(text: str, stderr: bool = False) -> None:
    """One line, unwrapped and unstyled."""
    console(stderr).print(text, soft_wrap=True, highlight=False, markup=False)


def complain(sentence: str) -> None:
    """An error, on stderr."""
    say(f"timecli: {sentence}", stderr=True)


def warn(sentence: str) -> None:
    """Something that the user should know and that stops nothing, on stderr."""
    complain(f"warning: {sentence}")


def print_json(data: Mapping[str, Any]) -> None:
    """Data for a machine, on stdout."""
    print(json.dumps(data, indent=2, allow_nan=False))


def print_edit(summary: Mapping[str, Any], pairs: Sequence[Edit]) -> None:
    """Every changed tensor, the numbers of the whole, how far each source went, where the result is."""
    table = Table("tensor", "shape", "‖ΔW‖/‖W‖")
    for change in summary["changed"]:
        table.add_row(change["name"], " x ".join(map(str, change["shape"])), f"{change['relative']:.4f}")
    if summary["changed"]:
        console().print(table)
        spread = ", ".join(f"{summary['change'][name]:.4f} {name}" for name in ("least", "median", "most"))
        say(f"{summary['name']}: {len(summary['changed'])} matrices changed, ‖ΔW‖/‖W‖ {spread}")
    lambdas = ", ".join(f"{lam:g}" for lam in dict.fromkeys(summary["lambdas"]))
    rank, condition = f"rank {summary['rank']} of {summary['width']}", f"condition {summary['condition']:.1e}"
    say(f"operator: {rank}, {condition}, lambda {lambdas}")
    if summary.get("rounding"):
        say(f"rounding to the output's dtype: {summary['rounding']:.2%} of the edit lost")
    for pair, share in zip(pairs, summary["moved"], strict=True):
        say(f"{pair.source!r} moved {share:.1%} of the way to {pair.destination!r} in text space")
    if "sha256" in summary:
        say(f"sha256 {summary['sha256']}, AutoV2 {summary['sha256'][:10]}")
    if summary.get("seconds"):
        say("seconds: " + ", ".join(f"{name} {value:.2f}" for name, value in summary["seconds"].items()))
    print_written(summary["written"])


def print_written(paths: Sequence[str]) -> None:
    """Where the results are."""
    for path in paths or ["nothing (dry run)"]:
        say(f"wrote {path}")


def print_pairs(manifest: Manifest, encoder: TextEncoder) -> None:
    """The token pairing of every edit that has one, side by side."""
    for edit in manifest.edits:
        try:
            aligned = encoder.alignment(edit.source, edit.destination)
        except TimecliError:
            continue
        source, destination = encoder.words(edit.source), encoder.words(edit.destination)
        table = Table("", "source", "destination", "")
        for i, (word, j) in enumerate(zip(source, aligned, strict=False)):
            table.add_row(str(i), word, destination[j], str(j))
        console().print(table)
        if manifest.solve.tokens == "all":
            say(f"and {encoder.length - len(source)} positions of padding, one by one")


def print_scores(rows: Sequence[Sequence[str]], metrics: Sequence[str]) -> None:
    """Efficacy, generality, specificity of baseline, oracle and edited."""
    table = Table("", *metrics, "harmonic mean")
    for cells in rows:
        table.add_row(*cells)
    console().print(table)


def print_about(about: Mapping[str, Any]) -> None:
    """A file's description, one fact a line, a manifest as the text that it is."""
    for number, entry in enumerate((about, *about.get("edits", []))):
        if number:
            say(f"\nedit {number}: {entry['name']}")
        for key, value in entry.items():
            if key not in ("edits", "tokens"):
                say(f"{key}:\n{value}" if key == "manifest" else f"{key}: {_plain(value)}")


def _plain(value: Any) -> str:
    """A value as people write it."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {part}" for key, part in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def print_diff(summary: Mapping[str, Any]) -> None:
    """Which tensors differ, and what explains it."""
    table = Table("tensor", "what", "‖B−A‖/‖A‖")
    for row in summary["differences"]:
        table.add_row(row["name"], row["what"], "" if row["relative"] is None else f"{row['relative']:.4f}")
    if summary["differences"]:
        console().print(table)
    say(f"{len(summary['differences'])} tensors differ")
    if edit := summary["edit"]:
        _say_what_explains(edit)


def _say_what_explains(edit: Mapping[str, Any]) -> None:
    if edit["fits"] is None:
        rows = f"{edit['rows']} rows differ, fewer than the {edit['width']} unknowns of an edit ask for"
        return say(f"whether this is one edit of text space cannot be told: {rows}")
    kind = "is" if edit["fits"] else "is not"
    rest = f"{edit['unexplained']:.2e} of it unexplained, {edit['limit']:.0%} allowed"
    worst = f"{edit['worst']['unexplained']:.2e} of {edit['worst']['name']}"
    say(f"this {kind} one edit of text space: rank {edit['rank']}, {rest}; at worst {worst}")


def print_manifests(edits: Sequence[Mapping[str, Any]]) -> None:
    """The manifests of a file's edits, or their names where a file keeps no recipe."""
    for edit in edits:
        say(str(edit.get("manifest", f"# {edit['name']}, made without its recipe")))


@contextmanager
def stage(seconds: dict[str, float], name: str) -> Iterator[None]:
    """Time one stage; on a terminal, show its name while it runs."""
    started = time.perf_counter()
    with console(stderr=True).status(name):
        yield
    seconds[name] = round(time.perf_counter() - started, 3)


@contextmanager
def progress(name: str, total: float) -> Iterator[Callable[[float], None]]:
    """A bar with the time left on stderr; yields the function that advances it."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn(name),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("pictures, left:"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console(stderr=True)) as bar:
        task = bar.add_task(name, total=total)
        yield lambda count: bar.advance(task, count)
