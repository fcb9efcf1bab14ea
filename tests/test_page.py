"""The page shows what was drawn and found, works by keyboard and on a phone, and asks nothing of the network."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from timecli.drawing import edited, html, numbers, page, render, report
from timecli.drawing.judge import load_judge
from timecli.manifests.manifest import load
from timecli.manifests.rows import Row
from timecli.models.checkpoint import open_checkpoint
from timecli.text import encoding

from .conftest import PICTUREBOOK, ROSES

CPU = torch.device("cpu")
SCRIPT = "</script><img src=x onerror=document.title='taken'>"
TURNED = "A tulip \u202egnp.exe"
TABLE = [
    Row("source", "A rose", "A blue rose"),
    Row("positive", "A vase of roses", "A vase of blue roses"),
    Row("negative", SCRIPT, "A poppy"),
    Row("sample", TURNED, None),
    Row("sample", "A rose in the snow", None, counts=False),
    Row("everyday", "A dog", None),
]
SEEDS = (0, 3)


class Drawn:
    """What `verify` has in hand when it writes its page."""

    def __init__(self, model: Path, folder: Path) -> None:
        checkpoint = open_checkpoint(model)
        encoder = encoding.read_text_encoder(checkpoint, None, CPU)
        manifest = load(ROSES)
        delta = edited.given_edit(None, checkpoint, manifest, encoder, CPU)
        edits = {"after": edited.edited_matrices(delta, checkpoint, CPU)}
        settings = render.Settings(SEEDS, 2, 3.0)
        pipeline = render.load_pipeline(checkpoint, encoder, CPU)
        self.before, self.after = edited.draw(pipeline, edits, TABLE, settings, lambda _: None, folder)
        judge = load_judge(PICTUREBOOK / "judge", CPU)
        shares = {"after": edited.forecasts(delta, checkpoint, encoder, TABLE)}
        self.found = {
            "manifest": manifest.name,
            "model": model.name,
            "edits": {"after": numbers.made(delta, checkpoint) | {"note": SCRIPT}},
            **numbers.settings(settings, CPU),
            **numbers.found(manifest, TABLE, judge, self.before, self.after, shares),
        }
        self.found |= {"missed": ["kept is too low."], "thresholds": {"efficacy": 0.0, "kept": 1.1}}

    def page(self, **changes: Any) -> str:
        return page.page(self.found | changes, TABLE, report.columns(self.before, self.after))


@pytest.fixture(scope="module")
def drawn(picturebook: Path, tmp_path_factory: pytest.TempPathFactory) -> Drawn:
    return Drawn(picturebook, tmp_path_factory.mktemp("drawn"))


@pytest.fixture(scope="module")
def written(drawn: Drawn, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(drawn.page(), encoding="utf-8")
    return path


@pytest.fixture
def opened(window: Any, written: Path) -> Any:
    window.open(written)
    return window


def changed(written: Path, tmp_path: Path, old: str, new: str) -> Path:
    """The page with one thing broken."""
    text = written.read_text(encoding="utf-8")
    assert old in text
    path = tmp_path / "changed.html"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    return path


def test_it_asks_nothing_of_the_network_and_nothing_is_complained_of(opened: Any) -> None:
    assert opened.requests() == [] and opened.complaints() == []
    assert opened.run("return performance.getEntriesByType('resource').filter(e => !/^data:/.test(e.name))") == []


def test_only_its_own_script_runs_and_only_pictures_inside_are_shown(
    window: Any, written: Path, tmp_path: Path
) -> None:
    window.open(changed(written, tmp_path, "</main>", "</main><script>document.title = 'taken'</script>"))
    assert window.driver.title != "taken" and any("script-src" in text for text in window.complaints())
    picture = '</main><img alt="x" src="http://127.0.0.1:9/x.png">'
    window.open(changed(written, tmp_path, "</main>", picture))
    assert any("img-src" in text for text in window.complaints())
    wall = re.search(r"<meta http-equiv.*?>", written.read_text(encoding="utf-8"))
    assert wall is not None
    window.open(changed(changed(written, tmp_path, wall[0], ""), tmp_path, "</main>", picture))
    assert window.requests() == ["http://127.0.0.1:9/x.png"], "the control: without the wall it is asked for"


def test_hostile_prompts_are_text(opened: Any, written: Path, tmp_path: Path) -> None:
    headings = [heading.text for heading in opened.all(".card h3")]
    assert SCRIPT in headings and "A tulip \\u202egnp.exe" in headings
    assert opened.run("return [document.images.length, document.scripts.length]") == [2 * (2 * 3 + 4 * 2), 1]
    assert opened.driver.title != "taken" and "\u202e" not in opened.driver.page_source
    escaped = "&lt;/script&gt;&lt;img src=x onerror=document.title=&#39;taken&#39;&gt;</bdi>"
    wall = re.search(r"<meta http-equiv.*?>", written.read_text(encoding="utf-8"))
    assert wall is not None
    opened.open(changed(changed(written, tmp_path, wall[0], ""), tmp_path, escaped, SCRIPT))
    assert opened.driver.title == "taken", "the control: as markup, without the wall, it would run"


def test_every_picture_is_there_and_says_what_it_is(opened: Any, written: Path, tmp_path: Path) -> None:
    from .browser import BROKEN

    assert opened.run(BROKEN) == []
    alts = opened.run("return [...document.images].map(i => i.alt)")
    assert {"A rose: after, seed 3", "A rose: oracle, seed 0", "A dog: before, seed 0"} <= set(alts)
    assert len(set(alts)) == len(alts) and "A rose in the snow: before, seed 0" in alts, "nobody knows what is wanted"
    opened.open(changed(written, tmp_path, "data:image/png;base64,iVBOR", "data:image/png;base64,AAAA"))
    assert len(opened.run(BROKEN)) == 1, "the control"


def test_the_slider_wipes_between_before_and_after(opened: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    card = opened.one(".card")
    before, after = card.find_elements("css selector", ".tile")[:2]
    slider = card.find_element("css selector", "input[type=range]")
    opened.run("arguments[0].scrollIntoView()", card)
    shown = [opened.pixels(tile)[4:-4, 4:-4] for tile in (before, after)]
    assert np.abs(shown[0] - shown[1]).mean() > 1, "the control: the edit is seen"
    opened.press(slider, Keys.HOME)
    assert np.abs(opened.pixels(after)[4:-4, 4:-4] - shown[0]).mean() < 1
    assert slider.get_attribute("aria-valuetext") == "0 % after"
    opened.run("arguments[0].value = 50; arguments[0].dispatchEvent(new Event('input'))", slider)
    half, middle = opened.pixels(after)[4:-4, 4:-4], shown[0].shape[1] // 2
    assert np.abs(half - shown[1])[:, : middle - 4].mean() < 1 and np.abs(half - shown[0])[:, middle + 4 :].mean() < 1
    opened.press(slider, Keys.END)
    assert np.abs(opened.pixels(after)[4:-4, 4:-4] - shown[1]).mean() < 1


def test_the_filter_hides_kinds_and_counts_what_is_left(opened: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    count = opened.one("[aria-live=polite]")
    assert count.text == "6 of 6 prompts"
    opened.press(opened.one("input[value=sample]"), Keys.SPACE)
    assert count.text == "4 of 6 prompts"
    seen = {card.get_attribute("data-kind") for card in opened.all(".card") if card.is_displayed()}
    assert seen == {"source", "positive", "negative", "everyday"}
    opened.press(opened.one("input[value=sample]"), Keys.SPACE)
    assert count.text == "6 of 6 prompts" and all(card.is_displayed() for card in opened.all(".card"))


def test_a_picture_opens_large_and_closes_by_keyboard(opened: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    zoom, tile = opened.one("dialog"), opened.one(".tile.wipes")
    assert not zoom.is_displayed()
    opened.press(tile, Keys.ENTER)
    assert zoom.is_displayed() and zoom.find_element("css selector", "img").size["width"] > 3 * tile.size["width"]
    assert opened.one("#zoom-words").text == tile.find_element("css selector", "img").get_attribute("alt")
    opened.driver.switch_to.active_element.send_keys(Keys.ESCAPE)
    assert not zoom.is_displayed() and opened.driver.switch_to.active_element == tile


@pytest.mark.parametrize("width", [360, 1280])
def test_nothing_stands_out_of_the_page(window: Any, written: Path, tmp_path: Path, width: int) -> None:
    from .browser import OVERFLOW

    window.open(written, width)
    assert window.run(OVERFLOW) == 0
    window.open(changed(written, tmp_path, "</main>", f"</main><pre>{'wide ' * 500}</pre>"), width)
    assert window.run(OVERFLOW) > 0, "the control"


def test_parts_have_names_and_headings_their_order(opened: Any) -> None:
    assert [len(opened.all(part)) for part in ("header", "main", "h1", "nav[aria-label]")] == [1, 1, 1, 1]
    levels = opened.run("return [...document.querySelectorAll('h1,h2,h3')].map(h => +h.tagName[1])")
    assert all(after - before <= 1 for before, after in zip(levels, levels[1:], strict=False))
    named = "return [...document.querySelectorAll('section,article,dialog')].every(e => document.getElementById("
    assert opened.run(f"{named}e.getAttribute('aria-labelledby')).textContent !== null)")
    assert opened.run("return [...document.querySelectorAll('input')].every(i => i.labels.length === 1)")


def test_thresholds_are_told_in_words(drawn: Drawn, opened: Any) -> None:
    states = {one.find_element("css selector", "h3").text: one.text for one in opened.all(".measures li")}
    assert "✓ met threshold 0.0%" in states["efficacy"] and "✗ missed threshold 1.100" in states["kept"]
    assert "no threshold" in states["reached"] and "kept is too low." in opened.one("ul.sentences").text
    assert page.verdict(drawn.found) == "1 of 2 thresholds missed." == opened.one("h2").text
    assert page.verdict(drawn.found | {"missed": []}) == "Both thresholds are met."
    three = {"missed": [], "thresholds": dict.fromkeys(("kept", "reached", "efficacy"), 0.5)}
    assert page.verdict(drawn.found | three) == "All 3 thresholds are met."
    assert page.verdict(drawn.found | {"missed": ["a"], "thresholds": {"kept": 1}}) == "The threshold is missed."
    assert page.verdict(drawn.found | {"missed": [], "thresholds": {}}) == "Measured. The manifest sets no thresholds."
    silent = drawn.page(scores=None, missed=[], thresholds={})
    assert "Nothing was measured: no judge was given." in silent and 'id="scores"' not in silent


def test_a_destination_that_is_not_wanted_is_called_so(drawn: Drawn) -> None:
    cards = {kind: text for text in drawn.page().split("<article")[1:] if (kind := text.split('"')[3])}
    assert "destination:" in cards["source"] and "not:" not in cards["source"] and "→" in cards["positive"]
    assert 'class="destination">not: <bdi>A poppy</bdi>' in cards["negative"] and "→" not in cards["negative"]
    assert "shows what it must not" in cards["negative"] and "shows the destination" in cards["source"]
    markdown = report.markdown(drawn.found)
    assert "| not: A poppy |" in markdown and "| A blue rose |" in markdown


def test_the_slider_says_what_it_wipes(drawn: Drawn) -> None:
    shows = report.columns(drawn.before, {"strength 1": drawn.after["after"], "strength 2": drawn.after["after"]})
    one, row = drawn.found["prompts"][0], TABLE[0]
    assert page.card(one, row, shows, SEEDS).after == "after, in both columns"
    assert page.card(one, row, report.columns(drawn.before, drawn.after), SEEDS).after == "after"
    assert page.card(one, row, {"before": shows["before"]}, SEEDS).after == "", "nothing to compare"


def test_the_worst_prompt_is_first(drawn: Drawn) -> None:
    def one(kind: str, shown: float | None, like: float | None, counts: bool = True) -> dict[str, Any]:
        return {"kind": kind, "counts": counts, "shown": shown, "likeness": like}

    assert page.distance(one("positive", 0.25, 0.9)) == page.distance(one("negative", 0.75, 0.9)) == 0.75
    assert page.distance(one("explicit", 0.0, 0.5)) == page.distance(one("everyday", None, 0.5)) == 0.5
    assert page.distance(one("source", None, None)) == page.distance(one("sample", None, 0.1, counts=False)) == -1
    worst = max(drawn.found["prompts"], key=page.distance)
    headings = re.findall(r"<h3 id=\"prompt-\d+\"><bdi>(.*?)</bdi>", drawn.page())
    assert headings[0] == worst["prompt"] and headings[-1] == "A rose in the snow" and len(headings) == len(TABLE)


def test_several_edits_stand_between_before_and_wanted(drawn: Drawn) -> None:
    columns = report.columns(drawn.before, drawn.after)
    shows = {"before": columns["before"], "strength 0.5": columns["after"], "strength <1>": columns["after"]}
    text = page.page(drawn.found, TABLE, shows | {"oracle": columns["oracle"]})
    captions = re.findall("<figcaption>(.*?)</figcaption>", text)
    assert captions.count("strength 0.5") == captions.count("strength &lt;1&gt;") == len(SEEDS) * len(TABLE)
    assert captions.count("oracle") == len(SEEDS) * 2


def test_small_pictures_stay_exact_and_large_ones_small() -> None:
    noise = Image.effect_noise((512, 512), 40).convert("RGB")
    assert html.address(noise.resize((64, 64))).startswith("data:image/png;base64,")
    assert html.address(noise).startswith("data:image/webp;base64,")


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


def contrast(one: str, other: str) -> float:
    low, high = sorted(map(luminance, (one, other)))
    return (high + 0.05) / (low + 0.05)


def test_text_can_be_read_in_light_and_dark() -> None:
    """WCAG 2.2, 1.4.3 (AA): 4.5 to 1."""
    style = (Path(html.__file__).parent.parent / html.FOLDER / "base.css").read_text(encoding="utf-8")
    themes = [dict(re.findall(r"--(\w+): (#\w{6})", part)) for part in style.split("prefers-color-scheme: dark")[:2]]
    pairs = [(ink, ground) for ink in ("ink", "quiet", "accent") for ground in ("paper", "sheet")]
    assert all(contrast(theme[ink], theme[ground]) >= 4.5 for theme in themes for ink, ground in pairs)
    assert contrast("#000000", "#ffffff") == pytest.approx(21) and contrast("#8a8a8a", "#ffffff") < 4.5, "the control"
