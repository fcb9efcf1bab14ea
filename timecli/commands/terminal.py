"""How results and progress look on a terminal; plain text where there is none. All output goes through `_put`."""

from __future__ import annotations

import io
import json
import math
import os
import re
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from timecli.errors import OutputError, TimecliError
from timecli.shown import harmless

if TYPE_CHECKING:  # types only: the commands import what they need when they run
    from timecli.manifests.manifest import Edit, Manifest
    from timecli.text.encoding import TextEncoder


def console(stderr: bool = False) -> Console:
    """A console of the terminal's width, or wide enough for tensor names where there is no terminal."""
    found = Console(stderr=stderr)
    return found if found.is_terminal else Console(stderr=stderr, width=140)


def _put(text: str, stderr: bool = False) -> None:
    """Write what is harmless. Whoever read our output and went away stops nothing.

    Raises:
        OutputError: stdout takes no more.
    """
    stream = sys.stderr if stderr else sys.stdout
    if stream is None:  # closed by whoever started us
        return
    try:
        stream.write(text)
        stream.flush()
    except OSError as error:
        # What is left in the buffer would be tried again at the end, and fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        if not stderr and not isinstance(error, BrokenPipeError):
            raise OutputError(f"stdout cannot be written: {error.strerror}; let it go elsewhere.") from error


def say(text: str, stderr: bool = False) -> None:
    """One line, unwrapped and unstyled."""
    _put(f"{harmless(text)}\n", stderr)


def say_lines(text: str) -> None:
    """A text of several lines: a manifest, a page."""
    unified = text.replace("\r\n", "\n")
    _put(harmless(unified, "\n\t") + "\n")


def complain(sentence: str) -> None:
    """An error, on stderr."""
    say(f"timecli: {sentence}", stderr=True)


def warn(sentence: str) -> None:
    """Something that the user should know and that stops nothing, on stderr."""
    complain(f"warning: {sentence}")


def warn_all(sentences: Iterable[str]) -> None:
    """Several warnings."""
    for sentence in sentences:
        warn(sentence)


def trace(error: BaseException) -> None:
    """The traceback of an error, on stderr."""
    text = "".join(traceback.format_exception(error))
    _put(harmless(text, "\n\t"), stderr=True)


def print_json(data: Mapping[str, Any]) -> None:
    """Data for a machine, on stdout: ASCII alone, as every reader of JSON takes it."""
    _put(json.dumps(_strict(data), indent=2, allow_nan=False).replace("\x7f", "\\u007f") + "\n")


def _strict(data: Any) -> Any:
    """Data without half letters, as names that are not UTF-8 have them, and with null for what is no number."""
    if isinstance(data, Mapping):
        return {_strict(key): _strict(part) for key, part in data.items()}
    if isinstance(data, list | tuple):
        return [_strict(part) for part in data]
    if isinstance(data, str):
        return re.sub("[\ud800-\udfff]", lambda found: harmless(found[0]), data)
    return None if isinstance(data, float) and not math.isfinite(data) else data


def print_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table whose cells are text and nothing else."""
    table = Table(*head)
    for cells in rows:
        table.add_row(*(Text(harmless(cell)) for cell in cells))
    shown, page = console(), io.StringIO()
    Console(file=page, width=shown.width, force_terminal=shown.is_terminal).print(table)
    _put(page.getvalue())


def print_edit(summary: Mapping[str, Any], pairs: Sequence[Edit]) -> None:
    """Every changed tensor, the numbers of the whole, how far each source went, where the result is."""
    if summary["changed"]:
        cells = ((c["name"], " x ".join(map(str, c["shape"])), f"{c['relative']:.4f}") for c in summary["changed"])
        print_table(("tensor", "shape", "‖ΔW‖/‖W‖"), cells)
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
    for path in paths:
        say(f"wrote {path}")


def print_pairs(manifest: Manifest, encoder: TextEncoder) -> None:
    """The token pairing of every edit that has one, side by side."""
    for edit in manifest.edits:
        try:
            aligned = encoder.alignment(edit.source, edit.destination)
        except TimecliError:
            continue
        source, destination = encoder.words(edit.source), encoder.words(edit.destination)
        pairs = enumerate(zip(source, aligned, strict=False))
        print_table(
            ("", "source", "destination", ""), ((str(i), word, destination[j], str(j)) for i, (word, j) in pairs)
        )
        if manifest.solve.tokens == "all":
            say(f"and {encoder.length - len(source)} positions of padding, one by one")


def print_scores(rows: Sequence[Sequence[str]], metrics: Sequence[str]) -> None:
    """Efficacy, generality, specificity of baseline, oracle and edited."""
    print_table(("", *metrics, "harmonic mean"), rows)


def print_about(about: Mapping[str, Any]) -> None:
    """A file's description, one fact a line, a manifest as the text that it is."""
    for number, entry in enumerate((about, *about.get("edits", []))):
        if number:
            say("")
            say(f"edit {number}: {entry['name']}")
        for key, value in entry.items():
            if key == "manifest":
                say("manifest:")
                say_lines(value)
            elif key not in ("edits", "tokens"):
                say(f"{key}: {_plain(value)}")


def _plain(value: Any) -> str:
    """A value as people write it."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {part}" for key, part in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def print_diff(summary: Mapping[str, Any]) -> None:
    """Which tensors differ, and what explains it."""
    if summary["differences"]:
        sizes = ("" if row["relative"] is None else f"{row['relative']:.4f}" for row in summary["differences"])
        rows = ((row["name"], row["what"], size) for row, size in zip(summary["differences"], sizes, strict=True))
        print_table(("tensor", "what", "‖B−A‖/‖A‖"), rows)
    say(f"{len(summary['differences'])} tensors differ")
    if edit := summary["edit"]:
        _say_what_explains(edit)


def _say_what_explains(edit: Mapping[str, Any]) -> None:
    if edit["fits"] is None:
        return say(f"whether this is one edit of text space cannot be told: {edit['doubt']}")
    kind = "is" if edit["fits"] else "is not"
    rest = f"{edit['unexplained']:.2e} of it unexplained, {edit['limit']:.0%} allowed"
    worst = f"{edit['worst']['unexplained']:.2e} of {edit['worst']['name']}"
    say(f"this {kind} one edit of text space: rank {edit['rank']}, {rest}; at worst {worst}")


def print_manifests(edits: Sequence[Mapping[str, Any]]) -> None:
    """The manifests of a file's edits, or their names where a file keeps no recipe."""
    for edit in edits:
        if "manifest" in edit:
            say_lines(edit["manifest"])
        else:
            say(f"# {edit['name']}, made without its recipe")


@contextmanager
def timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    """Time one stage that shows its own progress."""
    started = time.perf_counter()
    yield
    seconds[name] = round(time.perf_counter() - started, 3)


@contextmanager
def stage(seconds: dict[str, float], name: str) -> Iterator[None]:
    """Time one stage; on a terminal, show its name while it runs."""
    with timed(seconds, name), console(stderr=True).status(name):
        yield


@contextmanager
def progress(name: str, total: float, unit: str = "pictures") -> Iterator[Callable[[float], None]]:
    """A bar with the time left on stderr, if that is a terminal; yields the function that advances it."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn(name),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(f"{unit}, left:"),
        TimeRemainingColumn(),
    )
    shown = console(stderr=True)
    with Progress(*columns, console=shown, disable=not shown.is_terminal) as bar:
        task = bar.add_task(name, total=total)
        yield lambda count: bar.advance(task, count)
