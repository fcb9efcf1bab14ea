"""What `timecli bench` compares: the methods and the grids of settings that its options name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from timecli.commands import options
from timecli.errors import TimecliError

if TYPE_CHECKING:
    from timecli.measuring.schedule import Configuration


def configurations(grid: list[str], methods: list[str], bulk: bool) -> list[Configuration]:
    """Every combination of the values of --grid, for every --method that has them.

    Raises:
        TimecliError: a key, a value or a method is not known, or no method has the key.
    """
    from timecli.measuring import schedule

    values: dict[str, list[object]] = {}
    for text in grid:
        key, _, listed = text.partition("=")
        options.choice(key, "--grid", schedule.GRIDS)
        values.setdefault(key, []).extend(_value(key, item) for item in listed.split(","))
    for method in methods:
        options.choice(method, "--method", schedule.METHODS)
    for key in values:
        if not any(method in schedule.GRIDS[key] for method in methods):
            raise TimecliError(
                f"--grid {key} is for {', '.join(schedule.GRIDS[key])}; add --method {schedule.GRIDS[key][-1]}."
            )
    return schedule.configurations(methods, values, bulk)


def _value(key: str, text: str) -> object:
    from timecli.manifests.keys import AUGMENTATIONS, WORDINGS

    known: dict[str, dict[str, object]] = {
        "matrices": {"v": "v", "kv": "kv"},
        "augment": {"true": AUGMENTATIONS, "false": (), "wordings": WORDINGS},
    }
    if key in known:
        return known[key][options.choice(text, f"--grid {key}", known[key])]
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 1e-12 <= value <= 1e12:
        raise TimecliError(f"--grid {key}: {text!r} is not a number from 1e-12 to 1e12.")
    return value
