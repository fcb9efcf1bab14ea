"""The command line: the commands under their names, and what becomes of an error."""

from __future__ import annotations

import io
import os
import signal
import sys
from typing import Annotated

import typer

from timecli import __version__, options, terminal
from timecli.commands.apply import apply
from timecli.commands.bench import bench
from timecli.commands.check import check
from timecli.commands.diff import diff
from timecli.commands.edit import edit
from timecli.commands.export import export
from timecli.commands.importing import import_
from timecli.commands.inspect import inspect
from timecli.commands.schema import schema
from timecli.commands.tune import tune
from timecli.commands.verify import verify
from timecli.errors import Interrupted, TimecliError

QUIET = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error", "DIFFUSERS_VERBOSITY": "error"}
"""Environment for the libraries below: never the network, no chatter. What the user has set stays."""

app = typer.Typer(
    help="Edit what a text-to-image model assumes, as files under version control.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

_debug = False


def _show_version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


Version = Annotated[
    bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")
]


@app.callback()
def _options(debug: options.Debug = False, version: Version = False) -> None:
    global _debug
    _debug = debug


for command in (edit, apply, export, check, verify, bench, tune, inspect, diff, import_, schema):
    app.command(command.__name__.strip("_"))(command)


def _interrupted(_number: int, _frame: object) -> None:
    raise Interrupted


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; errors become one sentence on stderr and exit code 2."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupted)
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    for stream in (sys.stdout, sys.stderr):  # a Windows pipe cannot take every letter otherwise
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8")
    try:
        app(arguments)
    except Interrupted:
        terminal.complain("interrupted; nothing is half written.")
        sys.exit(2)
    except (TimecliError, OSError) as error:
        if _debug:
            raise
        terminal.complain(str(error))
        sys.exit(2)
    except Exception as error:
        if _debug:
            raise
        terminal.complain(f"unexpected {type(error).__name__}: {error}; run `timecli --debug …` and report it.")
        sys.exit(3)
