"""A debiasing from two prompts to its share: `init --balance` drafts it and `verify` counts it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from timecli.drawing import balance, page, report
from timecli.manifests import balances, manifest
from timecli.manifests.rows import Row, everyday_rows
from timecli.measuring import objectives

from .conftest import Run

WORDS = ("a CEO", "a female CEO")


@pytest.fixture
def drafted(run: Run, tmp_path: Path) -> manifest.Manifest:
    done = run("init", *WORDS, "--balance", "-o", tmp_path / "x.toml")
    assert done.code == 0 and "tune --in-place" in done.err, done.err
    return manifest.load(tmp_path / "x.toml")


def test_init_drafts_a_balance_where_a_gender_is_added(run: Run, drafted: manifest.Manifest, tmp_path: Path) -> None:
    assert drafted.balance is not None
    assert drafted.balance.descriptions == ("a female CEO", "a male CEO")
    assert drafted.balance.validation == ("A photo of a CEO",) and len(drafted.balance.prompts) == 5
    (edit,) = drafted.edits
    assert not edit.positives and drafted.verify.efficacy is None and drafted.solve.strength == 0.45
    assert objectives.suited([drafted]) == "balance" and objectives.toward(drafted) == 0
    for one, other in (("male", "female"), ("woman", "man")):
        done = run("init", "a nurse", f"a {one} nurse", "--balance", "-o", tmp_path / f"{one}.toml")
        assert done.code == 0, done.err
        balance = manifest.load(tmp_path / f"{one}.toml").balance
        assert balance is not None and balance.descriptions == (f"a {one} nurse", f"a {other} nurse")


def test_what_adds_no_gender_has_no_balance(run: Run, tmp_path: Path) -> None:
    done = run("init", "a rose", "a blue rose", "--balance", "-o", tmp_path / "x.toml")
    assert done.code == 2 and "'A blue rose' adds no gender, which --balance is for" in done.err
    assert not (tmp_path / "x.toml").exists()


class Told:
    def choose(self, images: list[Image.Image], texts: tuple[str, str]) -> list[int]:
        return [texts.index(image.info["shows"]) for image in images]


def pictures(*shown: str) -> list[Image.Image]:
    found = [Image.new("RGB", (8, 8)) for _ in shown]
    for image, text in zip(found, shown, strict=True):
        image.info["shows"] = text
    return found


def images(drafted: manifest.Manifest, women: int, of: int = 4) -> dict[str, list[Image.Image]]:
    """Of every prompt so many pictures of women, and men."""
    assert drafted.balance is not None
    each = {prompt: balances.worded(drafted, prompt) for prompt in balances.counted(drafted.balance)}
    return {prompt: pictures(*[one] * women, *[other] * (of - women)) for prompt, (one, other) in each.items()}


def test_the_share_is_told_before_and_after_with_its_confidence(drafted: manifest.Manifest) -> None:
    assert drafted.balance is not None
    models = (images(drafted, 0), {"after": images(drafted, 3)})
    found = balance.balances(drafted, Told(), *models)["x"]  # type: ignore[arg-type]
    assert (found["unedited"]["share"], found["unedited"]["delta"]) == (0, 1)
    one = found["after"]
    assert (one["share"], one["delta"], one["pictures"]) == (0.75, 0.5, 20)
    assert one["interval"] == [*balances.interval(0.75, 20)]
    data = {
        "balances": {"x": found},
        "edits": {"after": {}},
        "scores": {"edited": {}},
        "best": "after",
        "thresholds": {},
    }
    (line,) = report.balance_lines(data)
    assert "'a female CEO' in 75% of 20 pictures (unedited 0%), 50% asked for, Δ 0.50" in line and "53% to 89%" in line
    (measure,) = page.measures(data)
    assert measure["value"] == "75%" and measure["limit"] == 0.5 and "Δ 0.50; 53% to 89%" in measure["said"]


def test_a_threshold_for_what_follows_keeps_efficacy(drafted: manifest.Manifest) -> None:
    asked = manifest.parse(drafted.text.replace("seeds = 8", "seeds = 8\nefficacy = 0.5"))
    assert balances.measured_as_balance(drafted) and not balances.measured_as_balance(asked)


def test_a_balances_rows_count_for_no_metric_and_name_both_sides(drafted: manifest.Manifest) -> None:
    rows = balances.balance_rows(drafted)
    first = rows[0]
    assert (first.kind, first.prompt, first.counts) == ("balance", "A photo of a CEO", False)
    assert (first.destination, first.against) == ("A photo of a female CEO", "A photo of a male CEO")
    assert not any(row.kind in ("source", "positive") for row in rows) and any(row.kind == "explicit" for row in rows)
    prompts = [row.prompt for row in everyday_rows(["A CEO in the snow", "A barn"], rows)]
    assert prompts == ["A barn"], "everyday prompts are about no source"


def test_the_sheet_shows_all_seeds_of_a_balance(drafted: manifest.Manifest) -> None:
    table = [Row("balance", "A photo of a CEO", "a", counts=False), Row("everyday", "A barn", None)]

    def sheet(kind: str) -> Image.Image:
        rows = [Row(kind, "A photo of a CEO", "a", counts=False), table[1]]
        return report.sheet(rows, {"before": lambda _: [Image.new("RGB", (8, 8))] * 10}, "x")

    lines = {kind: (sheet(kind).height - 2 * report.HEAD) // (report.CELL + 4) for kind in ("balance", "sample")}
    assert lines == {"balance": 4, "sample": 2}, "three lines of four, and one"


def test_verify_reports_a_balance_in_place_of_efficacy(run: Run, picturebook: Path, tmp_path: Path) -> None:
    (tmp_path / "few.txt").write_text("A barn\n")
    text = (
        'name = "ceo"\n[[edit]]\nsource = "A CEO"\ndestination = "A female CEO"\nstrength = 0.4\n'
        '[balance]\ndescriptions = ["a female CEO", "a male CEO"]\nvalidation = "A photo of a CEO"\n'
        '[preserve]\neveryday = "few.txt"\n'
    )
    (tmp_path / "ceo.toml").write_text(text)
    small = ("--seeds", 2, "--steps", 1, "--guidance", 3)
    done = run("verify", tmp_path / "ceo.toml", picturebook, "-o", tmp_path / "r", *small)
    assert done.code == 0, done.err
    found = json.loads((tmp_path / "r" / "report.json").read_text())
    assert found["balances"]["ceo"]["after"]["pictures"] == 2 and "efficacy" not in found["scores"]["edited"]
    assert "ceo, balance: 'a female CEO' in" in done.out
    written = (tmp_path / "r" / "report.html").read_text()
    assert (
        "ceo: a female CEO" in written
        and "should show both" in written
        and "efficacy" not in written.split("scores")[0]
    )
    assert "- **balance**: ceo" in (tmp_path / "r" / "report.md").read_text()
