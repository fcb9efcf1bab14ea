"""The model card that `verify --card` writes: where it goes, and its files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from timecli.errors import OutputError

if TYPE_CHECKING:
    from timecli.drawing.verification import Verification
    from timecli.manifests.manifest import Manifest


def files(card: Path) -> tuple[Path, Path]:
    """The card and its pictures, which stand beside it."""
    return card, card.with_suffix(".png")


def check(card: Path, inputs: Sequence[Path], force: bool) -> None:
    """Refuse a place for the card before anything is drawn."""
    from timecli.files.targets import check_target, require_no_link

    if card.suffix != ".md":
        raise OutputError(f"{card} does not end in .md; a card is a Markdown page, README.md on the hub.")
    page, picture = files(card)
    require_no_link(picture)
    for target in (page, picture):
        check_target(target, list(inputs), force, 0)


def write(card: Path, manifest: Manifest, made: Verification, data: dict[str, Any], force: bool) -> list[Path]:
    """Write both files; returns them."""
    from timecli.drawing import card as cards
    from timecli.drawing.report import columns
    from timecli.files.writing import write_bytes

    page, picture = files(card)
    write_bytes(picture, cards.pictures(made.table, columns(made.before, made.after), data), force)
    write_bytes(page, cards.card(manifest, data, picture.name).encode(), force, follow=True)
    return [page, picture]
