"""What a bench leaves in its folder beside the results: tables, plots, and the page with its pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from timecli.commands import terminal

if TYPE_CHECKING:
    from timecli.measuring.edits import Edits
    from timecli.measuring.pictures import Album
    from timecli.measuring.prompts import Drawn
    from timecli.measuring.quality import Reference
    from timecli.measuring.schedule import Job
    from timecli.measuring.studio import Studio


def report(
    output: Path,
    title: str,
    jobs: Sequence[Job],
    compared: Reference | None,
    edits: Edits,
    made: Studio,
    every: bool,
    draws: bool,
    as_json: bool,
) -> None:
    """Tables and plots from the results, which are complete."""
    from timecli.files.writing import write_bytes
    from timecli.measuring import bench as benching
    from timecli.measuring import page as htmlpage
    from timecli.measuring import plots, prompts, tables

    results = output / benching.RESULTS
    answers, seen = benching.load(results), benching.load_seen(results)
    found = tables.collect(jobs, answers, seen)
    measured = tables.qualities(found, compared, benching.load_quality(results)) if compared else None
    each = prompts.collect(jobs, answers, seen, {job.model: edits.forecasts(job.model) for job in jobs})
    page = "\n".join([tables.markdown(title, found, measured), *prompts.agreement(each)]).rstrip() + "\n"
    names = "".join(f"{name}\n" for name in tables.filtered(found))
    contents = {"table.md": page, "filtered.txt": names}
    contents |= {"prompts.md": prompts.page(title, each), "prompts.jsonl": prompts.lines(each)} if each else {}
    album = _album(output / "pictures", each, jobs, edits, made, every, draws)
    contents["report.html"] = htmlpage.page(title, found, each, album, made.settings.seeds)
    for name, content in contents.items():
        write_bytes(output / name, content.encode())
    written = [results, *(output / name for name in contents), *plots.save(output, found, answers)]
    if as_json:
        data = {"title": title, **tables.data(found, measured), "written": [str(path) for path in written]}
        return terminal.print_json("bench", data)
    terminal.say_lines(page.split("\n## ")[0].rstrip() if any(one.scores for one in found) else page.rstrip())
    terminal.print_written([str(path) for path in written])


def _album(
    folder: Path, each: Sequence[Drawn], jobs: Sequence[Job], edits: Edits, made: Studio, every: bool, draws: bool
) -> Album:
    """The pictures that the page shows, or all. On a cluster's behalf nothing is drawn here, where it could be slow."""
    from timecli.measuring import pictures

    album = pictures.Album(folder, edits.head)
    seeds = made.settings.seeds if every else made.settings.seeds[: pictures.SHOWN]
    chosen = each if every else [one for own in pictures.worst(each).values() for one in own]
    left = album.lacks(pictures.wanted(chosen, jobs), seeds) if draws else {}
    with terminal.progress("drawing again", sum(map(len, left.values())) * len(seeds)) as tick:
        album.draw(left, made, edits, seeds, tick)
    return album
