"""Text of unknown origin, made fit to be shown: on a terminal, in a sentence, on a Markdown page."""

from __future__ import annotations

import re
from collections.abc import Sequence

UNSEEN = re.compile(
    "[\x00-\x1f\x7f-\x9f"  # what terminals obey, escape sequences among it
    "\u2028\u2029"  # line ends
    "\u202a-\u202e\u2066-\u2069"  # what reverses the order of letters
    "\ud800-\udfff]"  # halves of letters, among them the bytes of names that are not UTF-8
)
MARKUP = re.compile(r"[\\`*_{}\[\]<>|~$&]")
"""What Markdown and HTML would read as more than a letter, within a line."""
MOST = 500
"""Letters of a value that a sentence shows."""
START, END = 1500, 500
"""Letters of a longer sentence that are shown: what was found, and what to do."""


def harmless(text: str, kept: str = "") -> str:
    r"""`text` with everything but letters written out, ESC as the four letters `\x1b`; what is in `kept` stays."""
    return UNSEEN.sub(lambda found: found[0] if found[0] in kept else _written_out(found[0]), text)


def _written_out(letter: str) -> str:
    code = ord(letter)
    if 0xDC80 <= code <= 0xDCFF:  # Python's stand-in for a byte that is not UTF-8
        code -= 0xDC00
    return {"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(letter) or (f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}")


def in_markdown(text: str) -> str:
    """`text` so that a Markdown page shows it as it is, in a line or in a cell of a table."""
    return MARKUP.sub(r"\\\g<0>", harmless(text)).replace("://", "\\://")


def table_row(*cells: str) -> str:
    """A row of a table on a Markdown page; the cells are as they shall stand there."""
    return f"| {' | '.join(cells)} |"


def brief(value: object) -> str:
    """A value as TOML and JSON write it, cut where it is long."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # Python writes out neither numbers of 5000 digits nor towers of lists
        return "a number of thousands of digits" if isinstance(value, int) else "a tower of lists"
    return text if len(text) <= MOST else f"{text[:MOST]} ..."


def shortened(text: str) -> str:
    """A sentence that quotes files of others, its middle cut out where it is too long to be read."""
    return text if len(text) <= START + END else f"{text[:START]} ... {text[-END:]}"


def amount(count: int, one: str, many: str = "") -> str:
    """A number with its noun: 1 seed, 2 seeds; `many` is the plural where it is not one with an s."""
    return f"{count:,} {one if count == 1 else many or f'{one}s'}"


def and_more(prompts: Sequence[str]) -> str:
    """The first of some prompts, and how many others there are."""
    more = f" and {amount(len(prompts) - 1, 'more prompt')}" if len(prompts) > 1 else ""
    return f"{prompts[0]!r}{more}"


def all_of(count: int, one: str) -> str:
    """All there are: the edit, both edits, all 3 edits."""
    return f"the {one}" if count == 1 else f"both {one}s" if count == 2 else f"all {count} {one}s"
