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

from timecli.errors import OutputError, TimecliError
from timecli.shown import amount, harmless, shortened

if TYPE_CHECKING:  # types only: the commands import what they need when they run, and an error needs no rich
    from rich.console import Console

    from timecli.manifests.manifest import Manifest
    from timecli.text.readers import TextEncoder


VERSION = 1
"""Of the JSON that commands print; it rises when a key goes or changes its meaning."""
EVERY = 10.0
"""Seconds between two lines of progress where there is no terminal."""

_quiet = False


def hush(quiet: bool) -> bool:
    """Say nothing but errors from here on, or everything again."""
    global _quiet
    _quiet = quiet
    return quiet


def console(stderr: bool = False) -> Console:
    """A console of the terminal's width, or wide enough for tensor names where there is no terminal."""
    from rich.console import Console

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
            raise OutputError(f"stdout cannot be written: {error.strerror}; send it elsewhere.") from error


def say(text: str, stderr: bool = False) -> None:
    """One line, unwrapped and unstyled."""
    if not _quiet:
        _put(f"{harmless(text)}\n", stderr)


def say_all(sentences: Iterable[str]) -> None:
    """Several lines beside a command's output."""
    for sentence in sentences:
        say(sentence, stderr=True)


def say_lines(text: str) -> None:
    """A text of several lines: a manifest, a page."""
    unified = text.replace("\r\n", "\n")
    if not _quiet:
        _put(harmless(unified, "\n\t") + "\n")


def complain(text: str) -> None:
    """An error, a sentence on stderr."""
    _put(f"timecli: {harmless(shortened(text))}\n", stderr=True)


def warn(text: str) -> None:
    """Something that the user should know and that stops nothing, on stderr."""
    say(f"timecli: warning: {shortened(text)}", stderr=True)


def warn_all(sentences: Iterable[str]) -> None:
    """Several warnings."""
    for sentence in sentences:
        warn(sentence)


def trace(error: BaseException) -> None:
    """The traceback of an error, on stderr."""
    text = "".join(traceback.format_exception(error))
    _put(harmless(text, "\n\t"), stderr=True)


def print_json(command: str, data: Mapping[str, Any]) -> None:
    """What a command found, for a machine, on stdout."""
    print_data(enveloped(command, data))


def enveloped(command: str, data: Mapping[str, Any]) -> dict[str, Any]:
    """What a command found, under its name and the number of the schema."""
    return {"schema_version": VERSION, "command": command, **data}


def print_data(data: Mapping[str, Any]) -> None:
    """JSON on stdout: ASCII alone, as every reader takes it."""
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
    if _quiet:
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*head)
    for cells in rows:
        table.add_row(*(Text(harmless(cell)) for cell in cells))
    shown, page = console(), io.StringIO()
    Console(file=page, width=shown.width, force_terminal=shown.is_terminal).print(table)
    _put(page.getvalue())


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
            say(f"and {amount(len(aligned) - len(source), 'position')} of padding, one by one")


def print_diff(summary: Mapping[str, Any]) -> None:
    """Which tensors differ, and what explains it."""
    if summary["differences"]:
        sizes = ("" if row["relative"] is None else f"{row['relative']:.4f}" for row in summary["differences"])
        rows = ((row["name"], row["what"], size) for row, size in zip(summary["differences"], sizes, strict=True))
        print_table(("tensor", "what", "‖B−A‖/‖A‖"), rows)
    count = len(summary["differences"])
    say(f"{amount(count, 'tensor')} {'differs' if count == 1 else 'differ'}")
    if edit := summary["edit"]:
        _say_what_explains(edit)


def _say_what_explains(edit: Mapping[str, Any]) -> None:
    if edit["fits"] is None:
        return say(f"it is not clear whether this is one edit of text space: {edit['doubt']}")
    kind = "is" if edit["fits"] else "is not"
    rest = f"{edit['unexplained']:.2%} of the change is not explained by it, up to {edit['limit']:.0%} may be"
    worst = f"{edit['worst']['unexplained']:.2%} in {edit['worst']['name']}"
    say(f"this {kind} one edit of text space, of rank {edit['rank']}: {rest}; at worst {worst}")


@contextmanager
def timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    """Time one stage that shows its own progress."""
    started = time.perf_counter()
    yield
    seconds[name] = round(time.perf_counter() - started, 3)


@contextmanager
def stage(seconds: dict[str, float], name: str) -> Iterator[None]:
    """Time one stage; on a terminal, show its name while it runs."""
    if _quiet:
        with timed(seconds, name):
            yield
        return
    with timed(seconds, name), console(stderr=True).status(name):
        yield


@contextmanager
def progress(name: str, total: float, unit: str = "pictures") -> Iterator[Callable[[float], None]]:
    """The time left on stderr, as a bar on a terminal, else as lines; yields the function that advances it."""
    shown = console(stderr=True)
    if _quiet or not shown.is_terminal:
        yield _lines(name, total, unit)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn(name),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(f"{unit}, left:"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=shown) as bar:
        task = bar.add_task(name, total=total)
        yield lambda count: bar.advance(task, count)


def _lines(name: str, total: float, unit: str) -> Callable[[float], None]:
    """Progress where there is no terminal: a line every `EVERY` seconds, with the time left."""
    started = last = time.monotonic()
    done = 0.0

    def tick(count: float) -> None:
        nonlocal last, done
        done, now = done + count, time.monotonic()
        if now - last >= EVERY and 0 < done < total:
            last = now
            left = (now - started) / done * (total - done)
            say(f"{name}: {done:.0f} of {total:.0f} {unit}, {_span(left)} left", stderr=True)

    return tick


def _span(seconds: float) -> str:
    """How long something takes, for people."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
