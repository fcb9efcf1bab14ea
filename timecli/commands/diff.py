"""`timecli diff`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from timecli.commands import options, terminal
from timecli.commands.cautions import warn_of_record
from timecli.commands.groups import Telling, grouped
from timecli.commands.shared import given, open_model
from timecli.errors import DeltaError

if TYPE_CHECKING:
    from timecli.shipping.compare import Share

First = Annotated[Path, typer.Argument(metavar="A", help="Model before.")]
Second = Annotated[Path, typer.Argument(metavar="B", help="Model after.")]
Recovered = Annotated[Path | None, typer.Option("--delta", help="Write the edit that turns A into B as a delta file.")]


@grouped
def diff(
    one: First,
    other: Second,
    delta_path: Recovered = None,
    text_encoder: options.TextEncoders = None,
    force: options.Force = False,
    *,
    telling: Telling,
) -> None:
    """Say which tensors of two models differ, and whether B is A with such an edit, made by any tool."""
    from timecli.editing import delta as deltas
    from timecli.files.targets import check_target
    from timecli.models import contents

    if delta_path is not None:
        check_target(delta_path, given(one, other, text_encoder), force, 0)
    before = open_model(one, text_encoder=text_encoder, needs="prompts" if delta_path else "nothing")
    alone = contents.over(other, before)
    after = alone or open_model(other, needs="nothing")
    for checkpoint in (before,) if alone else (before, after):
        warn_of_record(checkpoint, "they are compared as they are")

    from timecli.shipping import compare

    if compare.by_maps(before, after):
        terminal.warn(
            f"{one} and {other} name their tensors differently, so that the maps that read text are compared."
        )
    found = compare.differences(before, after)
    recovered = compare.recover(before, after, f"{one.stem}-to-{other.stem}")
    summary: dict[str, object] = {"differences": [asdict(difference) for difference in found], "edit": None}
    if recovered is not None:
        summary["edit"] = {
            "fits": recovered.fits,
            "doubt": recovered.doubt if recovered.fits is None else None,
            "unexplained": _told(recovered.whole),
            "limit": recovered.whole.limit(compare.FIT),
            "worst": {"name": recovered.worst.name, "unexplained": _told(recovered.worst)},
            "rows": recovered.rows,
            "width": recovered.width,
            "rank": max(operator.rank for operator in recovered.delta.operators.values()),
            "matrices": recovered.delta.origin.matrices,
            "layers": recovered.delta.origin.layers,
        }
    terminal.print_json("diff", summary) if telling.as_json else terminal.print_diff(summary)
    if delta_path is None:
        return
    if recovered is not None and recovered.fits is None:
        raise DeltaError(
            f"{recovered.doubt}, so it is not clear whether it is an edit, and there is no delta to write."
        )
    if recovered is None or not recovered.fits:
        raise DeltaError(f"{other} is not {one} with an edit of text space, so there is no delta to write.")
    deltas.save_delta(recovered.delta, delta_path, force)
    terminal.say(f"wrote {delta_path}", stderr=telling.as_json)


def _told(share: Share) -> float:
    """What stays unexplained, without the digits that depend on where in memory a matrix begins."""
    return float(f"{share.unexplained:.6g}")
