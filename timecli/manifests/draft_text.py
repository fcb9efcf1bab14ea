"""A draft as the text of a manifest, with a comment for each part."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from timecli.manifests import manifest as manifests
from timecli.manifests import values
from timecli.manifests.drafts import BEHIND, FRONT, Draft, Test
from timecli.manifests.toml import line, probe, quoted
from timecli.manifests.wording import capital, small

WORST = 0.65
"""Likeness that every everyday prompt keeps; drafts for picturebook's validation edits have .68 to .98."""
LIGHT = 0.1
"""Everyday weight with which it is told what goes along; a higher one holds that back, and with it what it tells."""
EVEN = 0.45
"""The strength at which a forecast has half of the pictures show the destination (`editing.forecast.HALF`)."""
UNKNOWN = (
    "What the pair is about was not understood, so it stands alone. Add what belongs to it:",
    "- explicit = [{ prompt = …, destination = … }]: prompts that name another value and keep it;",
    "- another [[edit]] for each other way to say it, such as the plural;",
    "- under [preserve], prompts: what must stay.",
)
"""A comment where only the pair is known."""


def pairs_alone(draft: Draft, name: str) -> manifests.Manifest:
    """The pairs and nothing named to be preserved: what would go along with them is told by these."""
    pairs = manifests.parse(written(replace(draft, explicit=(), preserved=()), name))
    return manifests.with_value(pairs, "everyday_weight", LIGHT)


def written(draft: Draft, name: str, model: str = "") -> str:
    """The TOML text, with a comment for each part."""
    change = draft.change
    lines = [
        "# Written by `timecli init`. Read it, change what you do not mean, and see what it does with `timecli plan`.",
        line("name", name),
        line("description", f"{change.source}: {change.destination}."),
        *([line("model", model)] if model else []),
        "",
        "# The prompt to edit, and what it should draw.",
        *_pair(change.source, change.destination),
    ]
    if draft.positives:
        lines += ["# Other wordings: they should follow without being edited.", *_table("positives", draft.positives)]
    elif draft.balance is None:
        lines += ["# Add the same in other words, which should follow without being edited.", "positives = []"]
    if draft.negatives:
        lines += ["# Neighbours: they should stay as they are.", *_table("negatives", draft.negatives)]
    else:
        lines += ["# Add neighbours that should stay; `timecli plan` says how far each would go.", "negatives = []"]
    if draft.explicit:
        lines += ["# Prompts that name another value, and should keep it.", *_table("explicit", draft.explicit)]
    if not change.noun:
        lines += [f"# {line}" for line in UNKNOWN]
    for i, test in enumerate(draft.second):
        lines += ["", *(["# Singular or plural: to a model these are other words."] if i == 0 else [])]
        lines += _pair(*test)
    if draft.wider:
        lines += ["", "# Only what the pair says is edited. Remove the # to edit this, too."]
        lines += [f"# {text}" for test in draft.wider for text in _pair(*test)]
    lines += solved(draft)
    if draft.preserved:
        lines += ["", "[preserve]", "# These stay, and so do everyday prompts, which need no name here."]
        lines += ["prompts = [", *(f"    {quoted(prompt)}," for prompt in draft.preserved), "]"]
    lines += _balance(draft)
    lines += [
        "",
        "[verify]",
        "seeds = 8",
        "# Thresholds: below one, `timecli plan` and `timecli verify` exit with 1. Most edits reach more: raise them",
        "# to what yours reaches.",
    ]
    lines += ["efficacy = 0.8  # share of the sources' pictures that show the destination"] * (draft.balance is None)
    lines += ["generality = 0.6  # the same of positives"] * bool(draft.positives)
    lines += [f"worst = {WORST:g}  # likeness of the everyday prompt that changes most; 1 is the same picture"]
    added = {*change.destination.lower().split()} - {*change.source.lower().split()}
    gendered = bool(added & values.ADDED)  # people are drawn as either before, too
    lines += ["specificity = 0.9  # share of the negatives' pictures that stay"] * bool(
        draft.negatives and not gendered
    )
    lines += ["explicit = 0.85  # share of the explicit prompts' pictures that keep their value"] * bool(draft.explicit)
    return "\n".join(lines) + "\n"


def solved(draft: Draft) -> list[str]:
    """The lines of `[solve]`: what names other values is solved in the paper's wordings, which leave them room."""
    half = ["# About half of the pictures; `timecli tune --in-place` finds it by drawing.", f"strength = {EVEN:g}"]
    wordings = ['# Edit these, too: "A photo of …", "An image of …", "A picture of …".', "augment = true"]
    lines = half * (draft.balance is not None) + wordings * bool(draft.explicit)
    return ["", "[solve]", *lines] if lines else []


def _balance(draft: Draft) -> list[str]:
    """The lines of `[balance]`."""
    if draft.balance is None:
        return []
    said = small(draft.change.source)
    prompts = [capital(wording.replace("{}", said)) for wording in (*FRONT, *BEHIND)]
    return [
        "",
        "# Each of the two should be drawn as often as the other: `timecli verify` counts the share of the first.",
        "[balance]",
        f"descriptions = [{', '.join(map(quoted, draft.balance))}]",
        line("validation", f"A photo of {said}"),
        "prompts = [",
        *(f"    {quoted(prompt)}," for prompt in prompts),
        "]",
    ]


def _pair(source: str, destination: str) -> list[str]:
    return ["[[edit]]", line("source", source), line("destination", destination)]


def _table(key: str, tests: Sequence[Test]) -> list[str]:
    return [f"{key} = [", *(probe(*test) for test in tests), "]"]


def slug(text: str) -> str:
    """A name for a file, of a prompt without its article."""
    words = re.findall(r"[a-z0-9]+", small(text).lower())
    return "-".join(words[1:] if words[:1] and words[0] in ("a", "an", "the") else words)[:100].strip("-")
