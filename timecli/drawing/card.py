"""A model card for the hub: what was edited and why, pictures before and after, the numbers, and how to undo it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from timecli.drawing.album import png
from timecli.drawing.report import Column, balance_lines, best, score_table, sheet
from timecli.manifests.manifest import Manifest
from timecli.manifests.rows import BALANCE, Row
from timecli.shown import harmless, in_markdown, table_row

ROWS = 6
"""Prompts whose pictures are on the card."""
FENCE = "~~~~~~~~"
"""What a manifest's text stands between; shorter ones may be in it."""


def card(manifest: Manifest, found: Mapping[str, Any], picture: str) -> str:
    """The Markdown of a card with the metadata that the hub reads; what only its author knows is left to fill in.

    Args:
        manifest: the edit.
        found: what `verify --json` prints.
        picture: the name of the file with the pictures, beside the card.
    """
    name, model = in_markdown(found["manifest"]), in_markdown(found["model"])
    return "\n".join(
        [
            *_head(),
            f"# {model} with {name}",
            "",
            f"{model}, edited with [timecli](https://pypi.org/project/timecli-sd/): its assumptions are changed in the "
            "maps that read text. Nothing was trained.",
            "",
            "## What was edited, and why",
            "",
            *_edits(manifest),
            "",
            f"![before, after, oracle]({picture})",
            "",
            "*oracle* is the unedited model, asked for the destination.",
            "",
            "## What was measured",
            "",
            *_numbers(found),
            "",
            *_undo(manifest, found),
            "## Licence",
            "",
            "To fill in: the licence of the base model holds for this one, too.",
            "",
        ]
    )


def pictures(table: Sequence[Row], shows: Mapping[str, Column], found: Mapping[str, Any]) -> bytes:
    """The pictures of the card, PNG: what was edited first, then one of each other kind."""
    edited = [row for row in table if row.kind in ("source", "positive", BALANCE)]
    others = {row.kind: row for row in table if row not in edited}
    rows = [*edited[: max(ROWS - len(others), 2)], *others.values()]
    return png(sheet(rows, shows, f"{found['manifest']} on {found['model']}"))


def _head() -> list[str]:
    """The metadata. Empty entries are null to YAML, and the hub asks for them."""
    return [
        "---",
        "license:  # fill in: the base model's",
        "base_model:  # fill in: the base model's name on the hub",
        "base_model_relation: finetune",
        "pipeline_tag: text-to-image",
        "tags:",
        "- text-to-image",
        "- timecli",
        "---",
        "",
    ]


def _edits(manifest: Manifest) -> list[str]:
    why = [in_markdown(part.description) for part in manifest.parts or (manifest,) if part.description]
    rows = [
        table_row(in_markdown(edit.source), in_markdown(edit.destination), f"{manifest.strength(edit):g}")
        for edit in manifest.edits
    ]
    return [*why, *[""] * bool(why), table_row("source", "destination", "strength"), "|---|---|---|", *rows]


def _numbers(found: Mapping[str, Any]) -> list[str]:
    """Scores, and what is to be known of them."""
    lines = [f"- **in doubt**: {in_markdown(sentence)}" for sentence in found["doubts"]]
    lines += [f"- **missed**: {in_markdown(sentence)}" for sentence in found["missed"]]
    lines += [f"- **balance**: {in_markdown(sentence)}" for sentence in balance_lines(found)]
    lines += [""] * bool(lines)
    if not best(found):
        return [*lines, "Nothing was measured: no judge was given."]
    drawn = f"{len(found['seeds'])} seeds, {found['steps']} steps, guidance {found['guidance']:g}"
    return [*lines, f"Shares of pictures ({drawn}), judged by CLIP.", "", *score_table(found["scores"])]


def _undo(manifest: Manifest, found: Mapping[str, Any]) -> list[str]:
    """How it is made again and taken back."""
    return [
        "## How to make it, and how to undo it",
        "",
        "To undo the edit, take the original file. The edited file gives it back, too, up to rounding:",
        "",
        "```sh",
        f"timecli edit edit.toml BASE -o edited --delta edit.delta  # timecli {found['timecli']}",
        "timecli apply edit.delta edited -o original --undo",
        "```",
        "",
        f"The maps of BASE that read text have the SHA-256 `{found['base']}`. `edit.toml`:",
        "",
        f"{FENCE}toml",
        harmless(manifest.text.replace("\r\n", "\n").rstrip("\n"), "\n\t").replace(FENCE, ""),
        FENCE,
        "",
    ]
