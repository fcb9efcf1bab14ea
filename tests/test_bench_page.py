"""The bench's page: points lead to edits, tables sort by keyboard, the worst prompts have their pictures."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from timecli import cli
from timecli.measuring import page, pictures
from timecli.measuring.page import Point
from timecli.measuring.prompts import Drawn

from .conftest import PICTUREBOOK

EDITS = sorted((Path(__file__).parent / "data" / "bench").glob("*.toml"))
MODEL = PICTUREBOOK / "picturebook.safetensors"
SMALL = ["--seeds", "2", "--steps", "1", "--guidance", "3", "--method", "time", "--grid", "lambda=0.1,1000"]
HOSTILE = "<img src=x onerror=document.title='taken'> pig"


def bench(folder: Path) -> str:
    edits = [*map(str, EDITS), str(folder.parent / "hostile.toml")]
    (folder.parent / "hostile.toml").write_text(
        f'name = "hostile"\n[preserve]\neveryday = false\n[[edit]]\nsource = "{HOSTILE}"\ndestination = "A blue pig"\n'
    )
    with pytest.raises(SystemExit) as stop:
        cli.main(["bench", *edits, str(MODEL), "-o", str(folder), *SMALL])
    assert not stop.value.code
    return (folder / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bench") / "out"
    bench(folder)
    return folder


@pytest.fixture
def opened(window: Any, folder: Path) -> Any:
    window.open(folder / "report.html")
    return window


def test_it_is_whole_and_asks_for_nothing(window: Any, folder: Path) -> None:
    from .browser import BROKEN, OVERFLOW

    for width in (360, 1280):
        window.open(folder / "report.html", width)
        assert [window.requests(), window.complaints(), window.run(BROKEN), window.run(OVERFLOW)] == [[], [], [], 0]
    assert window.driver.title.startswith("3 edits on picturebook")
    assert HOSTILE in [heading.get_attribute("textContent") for heading in window.all(".card h3")]


def test_every_point_leads_to_the_edits_of_its_configuration(opened: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    points = {point.get_attribute("aria-label"): point for point in opened.all(".plot a")}
    marks = [name.split(",")[0] for name in points]
    assert marks == ["B", "O", "1", "2"]
    name = next(name for name in points if name.startswith("2, time λ=1000: generality "))
    opened.press(points[name], Keys.ENTER)
    assert opened.run("return location.hash") == "#part-2"
    assert opened.one("#part-2").text == "2. time λ=1000"
    edits = [cell.text for cell in opened.all("[aria-labelledby=part-2] tbody th")]
    assert edits == [path.stem for path in EDITS] + ["hostile"]
    places = [tuple(circle.location.values()) for circle in opened.all(".plot circle")]
    assert len(set(places)) == len(places), "every one can be pressed"


def test_tables_sort_by_their_heads(opened: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    def values(column: int) -> list[str]:
        return [row.get_attribute("data-value") for row in opened.all(f"#{table} tbody tr > :nth-child({column})")]

    table = "sorted"
    opened.run("document.querySelector('[aria-labelledby=totals] table').id = arguments[0]", table)
    heads = opened.all(f"#{table} thead th")
    kept = [head.text for head in heads].index("kept") + 1
    unsorted = values(kept)
    opened.press(heads[kept - 1].find_element("css selector", "button"), Keys.ENTER)
    numbers = sorted((float(value) for value in unsorted if value), reverse=True)
    assert [float(value) for value in values(kept) if value] == numbers and len(set(numbers)) > 1
    assert heads[kept - 1].get_attribute("aria-sort") == "descending" and values(kept)[-1] == "", "nothing is last"
    heads[kept - 1].find_element("css selector", "button").click()
    assert [float(value) for value in values(kept) if value] == numbers[::-1] and values(kept)[-1] == ""
    assert [head.get_attribute("aria-sort") for head in heads].count("ascending") == 1
    heads[0].find_element("css selector", "button").click()
    assert values(1) == sorted(values(1), reverse=True) != unsorted
    assert heads[kept - 1].get_attribute("aria-sort") is None


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path), dtype=int)


def without_pictures(page: str) -> str:
    return re.sub(r"data:image/[^\"']+", "", page)


def test_the_worst_prompts_have_their_pictures_and_a_second_run_draws_what_is_missing(folder: Path) -> None:
    text = (folder / "report.html").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in (folder / "prompts.jsonl").read_text().splitlines()]
    assert text.count("<article") == len(rows) == 2 * 9, "fewer than ten for each configuration, so all"
    assert "A tulip: after, seed 1" in text and "A rose: oracle, seed 0" in text
    files = {path: path.stat().st_mtime_ns for path in (folder / "pictures").rglob("*.png")}
    assert {path.parent.name for path in files} >= {"base", "time-0.1-blue-rose", "time-1000-green-car"}
    lost = min(path for path in files if path.parent.name == "time-0.1-blue-rose")
    before = pixels(lost)
    lost.unlink()
    assert without_pictures(bench(folder)) == without_pictures(text)
    assert np.abs(pixels(lost) - before).max() <= 3, "the same picture again, but for rounding in another batch"
    changed = {path for path, time in files.items() if path.stat().st_mtime_ns != time}
    assert lost in changed and {path.stem[:-2] for path in changed} == {lost.stem[:-2]}, "its other seed with it"


def test_the_worst_are_ten_of_each_configuration() -> None:
    found = [
        Drawn(name, "edit", "negative", f"prompt {i}", "x", None, i / 20, 1.0, None)
        for name in ("a", "b")
        for i in range(20)
    ]
    chosen = pictures.worst(found)
    assert [[one.shown for one in own] for own in chosen.values()] == [[i / 20 for i in range(19, 9, -1)]] * 2


def test_files_are_told_apart_whatever_they_are_called(tmp_path: Path) -> None:
    album = pictures.Album(tmp_path)
    names = [("a", "../x"), ("a", "x"), ("a/b", "x"), ("a-b", "x"), ("a", "\u202e"), ("..", "..")]
    paths = {album.path(model, prompt, 0) for model, prompt in names}
    assert len(paths) == len(names) and all(path.parent.parent == tmp_path for path in paths)


def test_points_on_one_place_stand_side_by_side() -> None:
    taken = [Point("1", "", 300.0, 50.0, "")]
    assert page._free(taken, 300.0, 50.0) == (300.0 - page.APART, 50.0)
    assert page._free(taken, 300.0, 90.0) == (300.0, 90.0)
