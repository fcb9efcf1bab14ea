"""What plan says is what the algebra gives, what it advises helps, and a missed threshold is exit 1."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from timecli.commands import plan
from timecli.editing import compiling, forecast
from timecli.editing.preview import Forecast, advice
from timecli.manifests.manifest import load, parse
from timecli.manifests.rows import EVERYDAY, FOLLOW, Row
from timecli.models.checkpoint import Checkpoint
from timecli.text.readers import TextEncoder

from .conftest import ROSES as PLAIN
from .conftest import Run

CPU = torch.device("cpu")
ROSES = """# why
name = "x"  # this

[[edit]]
source = "A rose"
destination = "A blue rose"
positives = [{ prompt = "Roses", destination = "Blue roses" }]
negatives = [{ prompt = "A dog", destination = "A blue dog" }]
explicit = [{ prompt = "A red rose", destination = "A blue rose" }]

[verify]
prompts = ["A red rose", "A cat"]
"""


@pytest.mark.parametrize(("weight", "near"), [(0.1, 0.02), (3, 0.05)])
def test_the_forecast_is_how_far_every_projection_goes(
    weight: float, near: float, model: Checkpoint, encoder: TextEncoder
) -> None:
    """Against the sum over all matrices of projections, position by position, padding as much as the seven tokens."""
    task = parse(f"{ROSES}[preserve]\neveryday_weight = {weight}\n")
    delta = compiling.compile_edit(task, model, encoder, CPU)
    metric = forecast.metric(model, delta.origin, encoder)
    pair = ("A rose in the snow", "A blue rose in the snow")
    before, after = encoder.embed(pair)
    way = after[encoder.alignment(*pair)] - before
    own = len(encoder.tokens(pair[0]))
    counted = torch.cat([torch.ones(own), torch.full((77 - own,), own / (77 - own))]).double()
    found = []
    for each in (counted, torch.ones(77).double()):
        top = bottom = 0.0
        for _, weight in model.projections(twins=False):
            moved, whole = delta.operator.shift(before) @ weight.double().T, way @ weight.double().T
            top, bottom = top + float(each @ (moved * whole).sum(1)), bottom + float(each @ (whole * whole).sum(1))
        found.append(top / bottom)
    (share,) = forecast.shares([pair], encoder, delta.operator, metric)
    assert share == pytest.approx(found[0], abs=near), "the padding behind the words is not quite all alike"
    assert abs(found[1] - found[0]) > 0.002, "the control: it makes a difference how padding counts"


def test_the_source_arrives_and_nothing_goes_nowhere(model: Checkpoint, encoder: TextEncoder) -> None:
    delta = compiling.compile_edit(parse(ROSES), model, encoder, CPU)
    metric = forecast.metric(model, delta.origin, encoder)
    source, dog = forecast.shares([("A rose", "A blue rose"), ("A dog", "A blue dog")], encoder, delta.operator, metric)
    assert source > 0.85 and abs(dog) < 0.3
    assert forecast.shown(source) > 0.95 and forecast.shown(0.0) < 0.1 and forecast.shown(-1e9) < 1e-9
    assert forecast.shares([], encoder, delta.operator, metric) == []


def test_what_is_told_of_a_prompt_does_not_depend_on_the_others(model: Checkpoint, encoder: TextEncoder) -> None:
    """Longer prompts beside it are encoded with more padding behind, of which it would be told something else."""
    delta = compiling.compile_edit(parse(ROSES), model, encoder, CPU)
    metric = forecast.metric(model, delta.origin, encoder)
    long = "a painting of several striped red boots in the snow beside several spotted blue hats on the beach"
    pair, other = ("A purple rose", "A blue rose"), (long, long.replace("hats", "shirts"))
    for told, one, more in (
        (forecast.shares, pair, other),
        (forecast.kept, pair[0], long),
        (forecast.reached, pair, other),
    ):
        alone, *_ = told([one], encoder, delta.operator, metric)
        beside, *_ = told([one, more], encoder, delta.operator, metric)
        assert beside == pytest.approx(alone, abs=1e-4), told
    (states,) = encoder.embed([pair[0]], encoder.enough([long], behind=forecast.PADDING))
    (kept,) = forecast.kept([pair[0]], encoder, delta.operator, metric)
    with_more = forecast._like(states, delta.operator.shift(states), encoder, metric)
    assert abs(with_more - kept) > 1e-3, "as much padding as behind the long one would tell the same"


def test_plan_prints_and_exits_with_1_below_a_threshold(run: Run, picturebook: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_text(ROSES)
    done = run("plan", path, picturebook)
    assert done.code == 0, done.err
    for text in ("of the way", "forecast efficacy", "everyday prompts move by", "those that move most", "A cat"):
        assert text in done.out
    path.write_text(ROSES + "efficacy = 0.5\n")
    assert run("plan", path, picturebook).code == 0
    path.write_text(ROSES.replace("[[edit]]", "[solve]\nstrength = 0.05\n[[edit]]") + "efficacy = 0.5\n")
    missed = run("plan", path, picturebook)
    assert missed.code == 1 and "below the 50.0% that x asks for" in missed.err
    assert "'A rose' goes" in missed.out and "raise its strength" in missed.out


def test_a_ruined_model_is_forecast_to_keep_little(run: Run, picturebook: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    found = {}
    for everyday in ("true", "false"):
        path.write_text(ROSES.replace("[[edit]]", f"[preserve]\neveryday = {everyday}\n[[edit]]") + "kept = 0.85\n")
        done = run("plan", path, picturebook, "--json")
        found[everyday] = json.loads(done.out)["metrics"]["kept"]
        assert done.code == (0 if everyday == "true" else 1), done.err
    assert found["true"] > 0.9 and found["false"] < 0.8
    assert f"forecast kept is {found['false']:.3f}, below the 0.850 that x asks for" in done.err


@pytest.mark.usefixtures("all_everyday_prompts")
def test_kept_looks_at_everyday_prompts_that_are_not_preserved(run: Run, picturebook: Path, tmp_path: Path) -> None:
    """What is preserved by name stays; the rest is what the edit harms, and `verify` draws it."""
    path, kept = tmp_path / "x.toml", {}
    text = ROSES.replace(
        "[[edit]]", '[preserve]\nprompts = ["A dog", "A red rose", "A cat"]\neveryday = {}\n[[edit]]', 1
    )
    for everyday in ("true", "false"):
        path.write_text(text.replace("{}", everyday))
        kept[everyday] = json.loads(run("plan", path, picturebook, "--json").out)["metrics"]["kept"]
    assert kept["true"] > 0.9 > 0.85 > kept["false"]


def test_kept_is_one_where_nothing_moves_and_falls_with_how_far(model: Checkpoint, encoder: TextEncoder) -> None:
    delta = compiling.compile_edit(parse(ROSES), model, encoder, CPU)
    metric = forecast.metric(model, delta.origin, encoder)
    rose, dog = forecast.kept(["A rose", "A dog"], encoder, delta.operator, metric)
    still = forecast.kept(["A rose", "A dog"], encoder, replace(delta.operator, left=0 * delta.operator.left), metric)
    assert rose < dog <= 1 and still == [1.0, 1.0]
    assert forecast.kept([], encoder, delta.operator, metric) == []


def test_reached_is_higher_the_less_of_the_way_is_left(model: Checkpoint, encoder: TextEncoder) -> None:
    delta = compiling.compile_edit(parse(ROSES), model, encoder, CPU)
    metric, pairs = forecast.metric(model, delta.origin, encoder), [("A rose", "A blue rose"), ("A dog", "A blue dog")]
    rose, dog = forecast.reached(pairs, encoder, delta.operator, metric)
    still = replace(delta.operator, left=0 * delta.operator.left)
    rose_before, dog_before = forecast.reached(pairs, encoder, still, metric)
    assert 1 > rose > 0.9 > rose_before and abs(dog - dog_before) < 0.1 < rose - rose_before
    assert forecast.reached([], encoder, delta.operator, metric) == []


def test_a_threshold_of_reached_is_held_to_its_forecast(run: Run, picturebook: Path, tmp_path: Path) -> None:
    for wanted, code in ((0.999, 1), (0.5, 0)):
        (tmp_path / "x.toml").write_text(f"{ROSES}reached = {wanted}\n")
        done = run("plan", tmp_path / "x.toml", picturebook)
        assert done.code == code and ("forecast reached is " in done.err) == (code == 1), done.err


@pytest.mark.usefixtures("all_everyday_prompts")
def test_json_says_the_same(run: Run, picturebook: Path, tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text(ROSES)
    found = json.loads(run("plan", tmp_path / "x.toml", picturebook, "--json").out)
    assert [one["kind"] for one in found["forecasts"]] == [
        "source",
        "positive",
        "negative",
        "explicit",
        "sample",
        "sample",
    ]
    measured = {"efficacy", "generality", "specificity", "explicit", "kept", "worst", "reached"}
    assert found["metrics"].keys() == measured
    assert all(0 <= value <= 1 for value in found["metrics"].values())
    assert found["forecasts"][-1]["share"] is None and 0.9 < found["forecasts"][-1]["kept"] <= 1
    assert all(one["kept"] is None for one in found["forecasts"][:-2]) and 0 < found["everyday"]["moved"] < 1
    assert len(found["everyday"]["most"]) == EVERYDAY
    assert not any("rose" in one["prompt"].lower() for one in found["everyday"]["most"])


def test_fix_adds_pairs_and_prompts_and_keeps_comments(run: Run, picturebook: Path, tmp_path: Path) -> None:
    """A pair that goes nowhere and a neighbour that goes along, by hand: what is advised turns both."""
    path = tmp_path / "x.toml"
    text = ROSES.replace(
        '"Roses", destination = "Blue roses"', '"A dog in the snow", destination = "A blue dog in the snow"'
    )
    text = text.replace(
        '"A dog", destination = "A blue dog"', '"A rose in the city", destination = "A blue rose in the city"'
    )
    path.write_text(text)
    before = json.loads(run("plan", path, picturebook, "--json").out)
    assert len(before["advice"]) >= 2
    done = run("plan", path, picturebook, "--fix", "--json")
    after, fixed = json.loads(done.out), load(path)
    assert "# why" in path.read_text() and "# this" in path.read_text()
    assert fixed.edits[1].source == "A dog in the snow" and "A rose in the city" in fixed.preserve.prompts
    shares = [{one["prompt"]: one["share"] for one in found["forecasts"]} for found in (before, after)]
    assert shares[1]["A dog in the snow"] > shares[0]["A dog in the snow"] + 0.3
    assert shares[1]["A rose in the city"] < shares[0]["A rose in the city"]
    assert path.read_text().count("\n\n[") == path.read_text().count("\n[") > 3, "a blank line before every table"
    assert "wrote what is advised into" in done.err and "nothing to fix" not in done.err


def test_every_miss_has_what_would_mend_it() -> None:
    more = '{ prompt = "Two roses", destination = "Two blue roses" }'
    pairs = (
        ROSES.replace("positives = [", f"positives = [{more}, ")
        + '[[edit]]\nsource = "Roses"\ndestination = "Blue roses"\n'
    )
    manifest = parse(f'{pairs}[preserve]\nprompts = ["A dog"]\n')
    table = [
        Row("source", "A rose", "A blue rose"),
        Row("positive", "Roses", "Blue roses"),
        Row("positive", "Two roses", "Two blue roses"),
        Row("negative", "A dog", "A blue dog"),
        Row("explicit", "A red rose", "A blue rose"),
        Row("sample", "A cat", None),
    ]
    wrong = [Forecast(row, *((0.3, 0.2) if row.kind in FOLLOW else (0.6, 0.8))) for row in table]
    whole = [one.sentence for one in advice(manifest, wrong)]
    assert [sentence.split("the way")[1] for sentence in whole] == [
        ": raise its strength, or lower preserve.everyday_weight.",
        ": it is a pair already; raise its strength.",
        ": add the pair Two roses -> Two blue roses.",
        ": it is preserved already; raise preserve.weight, or lower the strength.",
        ": add it to preserve.prompts.",
    ]
    half = replace(manifest, solve=replace(manifest.solve, strength=0.4))
    told = [one.sentence.split(" goes")[0] for one in advice(half, wrong)]
    assert told == ["'A dog'", "'A red rose'"], "0.3 of the way is far enough where 0.4 is meant"
    for metric in ("efficacy", "reached"):
        demanded = replace(half, verify=replace(half.verify, **{metric: 0.5}))
        assert [one.sentence for one in advice(demanded, wrong)] == whole, "a threshold asks for all of the way"
    paper = replace(manifest, preserve=replace(manifest.preserve, everyday=False))
    assert advice(paper, wrong)[0].sentence.endswith("raise its strength, or lower lambda.")
    right = [Forecast(row, 0.5, 0.8 if row.kind in FOLLOW else 0.2) for row in table]
    assert advice(manifest, right) == [], "the control"


@pytest.mark.parametrize("form", ["\n", "\r\n", "no end"])
def test_fix_keeps_the_form_of_a_file(form: str, run: Run, picturebook: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    text = 'name = "x"\n\n[[edit]]\nsource = "A rose"\ndestination = "A blue rose"\n'
    text += 'positives = [{ prompt = "A cow", destination = "A blue cow" }]'
    path.write_bytes((text if form == "no end" else f"{text}\n".replace("\n", form)).encode())
    run("plan", path, picturebook, "--fix")
    end = "\n" if form == "no end" else form
    added = '\n\n[[edit]]\nsource = "A cow"\ndestination = "A blue cow"\n'
    assert path.read_bytes() == f"{text}{added}".replace("\n", end).encode()


def test_fix_says_how_to_write_what_it_cannot_add_to(run: Run, picturebook: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    pair = 'source = "A rose", destination = "A blue rose"'
    path.write_text(
        f'name = "x"\nedit = [{{ {pair}, positives = [{{ prompt = "A cow", destination = "A blue cow" }}] }}]\n'
    )
    before = path.read_bytes()
    done = run("plan", path, picturebook, "--fix")
    assert done.code == 2 and "give it [[edit]] tables" in done.err and path.read_bytes() == before, done.err


def test_fix_says_so_where_there_is_nothing_to_fix(run: Run, picturebook: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    sketch = ROSES.replace('"Roses"', '"A sketch of a rose"').replace('"Blue roses"', '"A sketch of a blue rose"')
    text = "\n".join(line for line in sketch.splitlines() if not line.startswith("explicit"))
    path.write_text(text)
    done = run("plan", path, picturebook, "--fix")
    assert done.code == 0 and "nothing to fix: " in done.err and path.read_text() == text, done.err


@pytest.mark.parametrize("later", ["a thought", "no TOML", "gone", "a mark"])
def test_what_an_editor_saves_while_a_manifest_is_fixed_stays(
    later: str, run: Run, picturebook: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, look = tmp_path / "x.toml", plan._look
    text = ROSES.replace('"Roses", destination = "Blue roses"', '"A cow", destination = "A blue cow"')
    path.write_text(text)
    saved = {"a thought": f"{text}# a later thought\n", "no TOML": "name = ", "gone": None, "a mark": "\ufeff" + text}

    def meanwhile(*arguments: Any) -> Any:
        content = saved[later]
        path.unlink() if content is None else path.write_text(content)
        return look(*arguments)

    monkeypatch.setattr(plan, "_look", meanwhile)
    done = run("plan", path, picturebook, "--fix")
    if later == "a mark":  # which is no letter of the text
        assert "wrote what is advised" in done.err, "the control"
        return
    assert done.code == 2 and done.err.endswith("x.toml changed meanwhile and stays; run the same command again.\n")
    assert [one.read_text() for one in tmp_path.iterdir()] == [saved[later]] * (later != "gone"), "nothing beside it"


def test_without_a_model_it_validates(run: Run, tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text(ROSES)
    done = run("plan", tmp_path / "x.toml")
    assert done.code == 0 and "x is valid, 1 edit." in done.out and "name a model" in done.err
    refused = run("plan", tmp_path / "x.toml", "--fix")
    assert refused.code == 2 and "name MODEL" in refused.err


def test_warnings_are_of_what_happens_and_not_of_how_many_pairs_there_are(
    run: Run, picturebook: Path, tmp_path: Path
) -> None:
    nouns = ("rose", "tulip", "dog", "cat", "car", "hat", "pig")
    pairs = [f'[[edit]]\nsource = "A {noun}"\ndestination = "A blue {noun}"\n' for noun in nouns]
    (tmp_path / "x.toml").write_text('name = "x"\n' + "".join(pairs))
    done = run("plan", tmp_path / "x.toml", picturebook)
    assert done.code == 0 and done.err == ""
    kept = '[preserve]\nprompts = ["A rose"]\nweight = 1000\n'
    (tmp_path / "x.toml").write_text('name = "x"\n' + kept + "".join(pairs[:2]))
    for command in (("plan", picturebook), ("edit", picturebook, "--delta", tmp_path / "d")):
        said = run(command[0], tmp_path / "x.toml", *command[1:]).err
        assert "'A rose' is preserved by name" in said and "not the 100% of its strength" in said
        assert "'A tulip' goes" not in said, "the control"


def test_a_worst_below_its_threshold_is_a_miss_with_what_to_do(run: Run, picturebook: Path, tmp_path: Path) -> None:
    for least, code in ((0.999, 1), (0.1, 0)):
        (tmp_path / "x.toml").write_text(f"{ROSES}worst = {least}\n")
        done = run("plan", tmp_path / "x.toml", picturebook)
        assert done.code == code and ("raise preserve.everyday_weight, or lower the strength" in done.err) == code
        assert bool(re.search(r"; '.*' changes most: preserve it by name", done.err)) == code


def test_a_threshold_above_every_forecast_is_told(run: Run, picturebook: Path, tmp_path: Path) -> None:
    for least, told in ((1.0, True), (0.99, False)):
        (tmp_path / "x.toml").write_text(f"{ROSES}efficacy = {least}\n".replace("strength", "# strength"))
        done = run("plan", tmp_path / "x.toml", picturebook)
        assert ("no forecast at strength 1 is above 99.2%: lower the threshold" in done.err) == told, done.err


def test_plan_warns_of_harm_as_edit_does_and_exits_with_1(run: Run, picturebook: Path, tmp_path: Path) -> None:
    """An edit that is much too strong meets every threshold of what should follow."""
    for name, text in (("world", ROSES), ("paper", PLAIN.read_text())):
        (tmp_path / f"{name}.toml").write_text(text.split("[verify]")[0])
        strong = ("--strength", 9) if name == "world" else ("--lambda", 1e-5)
        for options, code in ((strong, 1), ((), 0)):
            done = run("plan", tmp_path / f"{name}.toml", picturebook, "--json", *options)
            told = json.loads(done.out)["harm"]
            edited = run("edit", tmp_path / f"{name}.toml", picturebook, "-o", tmp_path / "out", "--force", *options)
            assert (done.code, edited.code, len(told)) == (code, 0, code), done.err
            assert [sentence in edited.err and sentence in done.err for sentence in told] == [True] * code
            assert ("will suffer" in edited.err) == bool(code)
