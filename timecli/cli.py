"""The command line: the commands under their names, and what becomes of an error."""

from __future__ import annotations

import gc
import io
import os
import re
import signal
import sys
import time
import warnings
from collections.abc import Callable
from functools import cache
from typing import Annotated, Any

import typer

from timecli import __version__
from timecli.commands import options, terminal
from timecli.commands.apply import apply
from timecli.commands.bench import bench
from timecli.commands.diff import diff
from timecli.commands.edit import edit
from timecli.commands.everyday import everyday
from timecli.commands.export import export
from timecli.commands.importing import import_
from timecli.commands.init import init
from timecli.commands.inspect import inspect
from timecli.commands.plan import plan
from timecli.commands.schema import schema
from timecli.commands.tune import tune
from timecli.commands.verify import verify
from timecli.errors import Interrupted, TimecliError, one_line, out_of_memory

QUIET = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error", "DIFFUSERS_VERBOSITY": "error"}
"""Environment for the libraries below: never the network, no chatter. What the user has set stays."""

app = typer.Typer(
    help="Edit what a text-to-image model assumes, as files under version control.",
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

CLICK = (
    (r"a valid float(?: range)?$", "a number"),
    (r"a valid (?:integer|int)(?: range)?$", "a whole number"),
    (r"in the range (-?[\d.]+?)(?:\.0)?<=x<=(-?[\d.]+?)(?:\.0)?$", r"from \1 to \2"),
    (r"in the range x>=(-?[\d.]+?)(?:\.0)?$", r"\1 or more"),
)
"""How click speaks of values, and how people do."""
AT_ONCE = 1.0
"""Seconds in which several signals are one."""

_debug = False
_last_signal = -AT_ONCE

UsageError: type[Any] = typer.BadParameter.__mro__[1]
"""Every mistake in the arguments. typer names only some kinds of it, and brings its own copy of click or not."""
KNOWN = (TimecliError, OSError, UsageError)
"""Errors that are no fault of ours."""


def _show_version(wanted: bool) -> None:
    if wanted:
        terminal.say(__version__)
        raise typer.Exit


Version = Annotated[
    bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")
]


@app.callback()
def _options(debug: options.Debug = False, version: Version = False) -> None:
    global _debug
    _debug = debug


for command in (init, plan, edit, apply, export, verify, bench, tune, inspect, diff, everyday, import_, schema):
    app.command(command.__name__.strip("_"), short_help=command.__doc__)(command)


@cache
def _command() -> Callable[..., Any]:
    return typer.main.get_command(app)


def interrupted(number: int, _frame: object) -> None:
    """Raise Interrupted. A signal right behind another is the same one, and must not come between what that removes."""
    global _last_signal
    now = time.monotonic()
    if now - _last_signal > AT_ONCE:
        _last_signal = now
        raise Interrupted(number)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; errors become one sentence on stderr and exit code 2, a signal its own exit code."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupted)
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    for stream in (sys.stdout, sys.stderr):  # a Windows pipe cannot take every letter otherwise
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8")
    gc.set_threshold(10_000, 10, 10)  # else half a million objects of the libraries are looked at again and again
    if not sys.warnoptions:  # what libraries have to tell each other
        warnings.simplefilter("ignore")
    sys.exit(_run(sys.argv[1:] if arguments is None else arguments))


def _run(arguments: list[str]) -> int:
    """The exit code."""
    try:
        return int(_command()(arguments or ["--help"], standalone_mode=False) or 0)
    except SystemExit:  # whoever read the help has gone
        return 0
    except BaseException as error:
        if _debug:
            terminal.trace(error)
        else:
            terminal.complain(_sentence(error))
        if isinstance(error, Interrupted):
            return error.code
        return 2 if isinstance(error, KNOWN) or out_of_memory(error) else 3


def _sentence(error: BaseException) -> str:
    """What the user is told."""
    if isinstance(error, Interrupted):
        rest = ", and the same command goes on where it was" if error.resumes else ""
        return f"interrupted; nothing is half written{rest}."
    if isinstance(error, UsageError):
        command = error.ctx.command_path if error.ctx else "timecli"
        said = error.format_message().rstrip(".")
        for theirs, ours in CLICK:
            said = re.sub(theirs, ours, said)
        return f"{said}; see `{command} --help`."
    if out_of_memory(error):
        return "there is not enough memory for this; close other programs, or on a GPU use --device cpu."
    if isinstance(error, OSError):
        where = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes | os.PathLike) else ""
        return f"{where}{error.strerror or one_line(error)}."
    if isinstance(error, TimecliError):
        return str(error)
    return f"unexpected {type(error).__name__}: {one_line(error)}; run `timecli --debug …` and report it."
