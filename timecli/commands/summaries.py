"""What `edit` and `apply` did, in a few lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from timecli.commands import terminal
from timecli.shown import amount

ILL = 1e13
"""A condition from which on float64 has few digits left."""


def print_edit(summary: Mapping[str, Any], verbose: bool) -> None:
    """What was done, how far the sources go, how much changed, where the result is."""
    terminal.say(_done(summary))
    for line in (_moved(summary["pairs"], summary.get("shares", ())), _changed(summary, verbose)):
        if line:
            terminal.say(line)
    if summary.get("everyday_moved") is not None:
        terminal.say(f"everyday prompts move by {summary['everyday_moved']:.1%} of their size in text space")
    if summary.get("rounding"):
        terminal.say(f"rounding to the output's dtype: {summary['rounding']:.2%} of the edit lost")
    if "sha256" in summary:
        terminal.say(f"sha256 {summary['sha256']}, AutoV2 {summary['sha256'][:10]}")
    if verbose:
        _print_all(summary)
    else:
        warn_of_condition(summary["condition"])
    terminal.print_written(summary["written"])


def warn_of_condition(condition: float) -> None:
    """Say so where a solve has few digits left."""
    if condition > ILL:
        terminal.warn(f"the solve has condition {condition:.0e}, so float64 has few exact digits left; raise lambda.")


def _done(summary: Mapping[str, Any]) -> str:
    """Name, and with what it was solved."""

    def listed(key: str) -> str:
        return ", ".join(f"{value:g}" for value in dict.fromkeys(summary[key]))

    weight = summary.get("everyday_weight")
    world = f", everyday weight {weight:g}" if weight else ""
    applied = summary.get("strength", 1.0)
    of_it = "" if applied == 1 else f", applied at strength {applied:g}"
    return f"{summary['name']}: lambda {listed('lambdas')}, strength {listed('strengths') or '1'}{world}{of_it}"


def _moved(pairs: Sequence[Sequence[str]], shares: Sequence[float | None]) -> str:
    """How far the first source goes to its destination, and the least of the others, as `plan` says it."""
    if not shares or shares[0] is None:
        return ""
    (source, destination), rest = pairs[0], [share for share in shares[1:] if share is not None]
    more = f"; {len(rest)} more, {min(rest):.0%} at least" if rest else ""
    return f"{source!r} goes {shares[0]:.0%} of the way to {destination!r}{more}"


def _changed(summary: Mapping[str, Any], verbose: bool) -> str:
    if not summary["changed"]:
        return ""
    spread = ", ".join(f"{summary['change'][name]:.4f} {name}" for name in ("least", "median", "most"))
    sizes = f", ‖ΔW‖/‖W‖ {spread}" if verbose else ""
    changed = sum(one["relative"] > 0 for one in summary["changed"])
    return f"{amount(changed, 'matrix', 'matrices')} changed{sizes}"


def _print_all(summary: Mapping[str, Any]) -> None:
    """Every changed tensor, every pair, the operator, and what took how long."""
    cells = ((c["name"], " x ".join(map(str, c["shape"])), f"{c['relative']:.4f}") for c in summary["changed"])
    if summary["changed"]:
        terminal.print_table(("tensor", "shape", "‖ΔW‖/‖W‖"), cells)
    for (source, destination), share in zip(summary["pairs"], summary["moved"], strict=True):
        terminal.say(f"{source!r} comes {share:.1%} nearer to {destination!r} in text space, all positions together")
    terminal.say(f"operator of rank {summary['rank']} in {summary['width']}: as a LoRA of that rank it is exact")
    terminal.say(f"condition of the solve {summary['condition']:.1e}; float64 has 16 digits")
    if summary.get("seconds"):
        terminal.say("seconds: " + ", ".join(f"{name} {value:.2f}" for name, value in summary["seconds"].items()))
