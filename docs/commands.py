"""Writes docs/commands.md, the help of every command, as a terminal of 80 columns shows it (78 and a margin).

python docs/commands.py
"""

from pathlib import Path
from typing import Any

import typer

from timecli.cli import app

PAGE = Path(__file__).with_suffix(".md")
HEAD = """# Commands

`python docs/commands.py` writes this page from the program. What the numbers of `plan` and `verify` mean is in
[Plan and verify](plan-and-verify.md), `bench` and `tune` are in [Experiments](experiments.md), and what the commands
write is in [Files](files.md).
"""


def section(title: str, text: str) -> str:
    """One command with its help."""
    return f"\n## {title}\n\n```text\n{text.rstrip()}\n```\n"


def page() -> str:
    """The whole page."""
    # Any: typer brings its own copy of click, or takes the installed one.
    root: Any = typer.main.get_command(app)
    width = {"terminal_width": 78, "resilient_parsing": True}
    context = root.make_context("timecli", [], **width)
    parts = [HEAD, section("timecli", root.get_help(context))]
    for name, command in root.commands.items():
        own = command.make_context(name, [], parent=context, **width)
        parts.append(section(f"timecli {name}", command.get_help(own)))
    return "".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
