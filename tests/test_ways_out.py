"""What a newcomer meets: a mistake is answered with what to type, and one thing has one word everywhere."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from timecli.commands.about import print_about
from timecli.drawing import page, report
from timecli.manifests.rows import Row

from .conftest import PICTUREBOOK, ROSES, Run

MODEL = PICTUREBOOK / "picturebook.safetensors"


@pytest.mark.parametrize(
    ("arguments", "order"),
    [
        ((MODEL, "a cow", "a spotted cow"), '"a cow" "a spotted cow"'),
        (("a cow", MODEL, "a spotted cow"), '"a cow" "a spotted cow"'),
        (("model.ckpt", "a cow"), '"a cow" "DESTINATION"'),
    ],
)
def test_a_model_where_a_prompt_belongs_is_told_with_the_right_order(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[object, ...], order: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run("init", *arguments)
    model = next(one for one in arguments if str(one).endswith(("safetensors", "ckpt")))
    assert done.code == 2 and f"{model} is a model where a prompt belongs; they are swapped" in done.err
    assert f"timecli init {order} {model}" in done.err and not list(tmp_path.iterdir())
    plain = run("init", "cows", "houses")
    assert "no word in common" in plain.err and "swapped" not in plain.err, "the control"


def test_a_folder_with_one_model_file_in_it_is_answered_with_the_file(run: Run, tmp_path: Path) -> None:
    (tmp_path / "pb" / "unet").mkdir(parents=True)
    shutil.copyfile(MODEL, tmp_path / "pb" / "model.safetensors")
    done = run("inspect", tmp_path / "pb")
    assert done.code == 2 and f"give the file in it, {tmp_path / 'pb' / 'model.safetensors'}." in done.err
    (tmp_path / "pb" / "judge").mkdir()
    shutil.copyfile(MODEL, tmp_path / "pb" / "judge" / "model.safetensors")
    assert f"give the file in it, {tmp_path / 'pb' / 'model.safetensors'}." in run("inspect", tmp_path / "pb").err
    shutil.rmtree(tmp_path / "pb" / "judge")
    shutil.copyfile(MODEL, tmp_path / "pb" / "other.safetensors")
    several = f"give one of the files in it, such as {tmp_path / 'pb' / 'model.safetensors'}."
    assert several in run("inspect", tmp_path / "pb").err
    (tmp_path / "pb" / "other.safetensors").unlink()
    (tmp_path / "pb" / "model.safetensors").unlink()
    assert "use a complete model." in run("inspect", tmp_path / "pb").err, "the control"


def test_a_folder_around_a_models_folder_is_answered_with_that_folder(run: Run, tmp_path: Path) -> None:
    inner = tmp_path / "hub" / "snapshots" / "model"
    inner.mkdir(parents=True)
    (inner / "model_index.json").write_text("{}")
    done = run("inspect", tmp_path / "hub")
    assert done.code == 2 and f"give the folder in it, {inner}." in done.err
    (tmp_path / "hub" / "other").mkdir()
    (tmp_path / "hub" / "other" / "model_index.json").write_text("{}")
    done = run("inspect", tmp_path / "hub")
    assert f"give one of the folders in it, such as {tmp_path / 'hub' / 'other'}." in done.err, "of two"


@pytest.mark.parametrize(
    ("text", "way"),
    [
        ("", "is empty; `timecli init` writes a manifest"),
        ('{"name": "x"}', "`timecli init` writes a manifest"),
        ("source,destination\na rose,a blue rose\n", "`timecli init` writes a manifest"),
        ('name = "x"\n[[edit]]\nsource = “a rose”\n', "write straight quotes"),
    ],
)
def test_what_is_no_manifest_is_answered_with_how_to_get_one(run: Run, tmp_path: Path, text: str, way: str) -> None:
    (tmp_path / "x.toml").write_text(text, encoding="utf-8")
    done = run("plan", tmp_path / "x.toml")
    assert done.code == 2 and way in done.err
    (tmp_path / "x.toml").write_text('name = "x"\n', encoding="utf-8")
    assert "init" not in run("plan", tmp_path / "x.toml").err, "the control: a key is missing"


def test_a_manifest_where_a_prompt_belongs_is_told(run: Run) -> None:
    done = run("init", "roses.toml", MODEL)
    assert done.code == 2 and "roses.toml is a manifest where a prompt belongs" in done.err


def test_apply_chooses_an_output_as_edit_does(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("edit", ROSES, MODEL, "--delta", "roses.delta").code == 0
    assert run("edit", ROSES, MODEL).code == 0
    name = "picturebook-blue-roses-plain.safetensors"
    written = Path(name).read_bytes()
    assert run("apply", "roses.delta", MODEL).code == 2, "it exists"
    Path(name).rename("edited.safetensors")
    done = run("apply", "roses.delta", MODEL)
    assert done.code == 0 and f"wrote {name}" in done.out and Path(name).read_bytes() == written
    assert run("apply", "roses.delta", "edited.safetensors", "--undo").code == 0
    assert Path("edited-without-blue-roses-plain.safetensors").exists()
    Path(name).unlink()
    Path(name).symlink_to("elsewhere.safetensors")
    for command in (("apply", "roses.delta", MODEL), ("edit", ROSES, MODEL)):
        assert run(*command).code == 2 and not Path("elsewhere.safetensors").exists(), "a link that nobody named"


def test_counts_of_what_a_model_has_none_of_are_not_told(capsys: pytest.CaptureFixture[str]) -> None:
    about = {
        "form": "single file",
        "maps": 2,
        "cross_attention_matrices": 0,
        "cross_attention_parameters": 0,
        "twins": 0,
    }
    print_about(about)
    assert capsys.readouterr().out == "form: single file\nmaps: 2\n"
    print_about(about | {"cross_attention_matrices": 32, "twins": 1})
    assert "cross_attention_matrices: 32\ntwins: 1\n" in capsys.readouterr().out, "the control"


def test_edit_and_plan_say_how_far_a_source_goes_in_the_same_words(run: Run, tmp_path: Path) -> None:
    done = run("edit", ROSES, MODEL, "-o", tmp_path / "a", "--json")
    (share,) = json.loads(done.out)["shares"]
    planned = json.loads(run("plan", ROSES, MODEL, "--json").out)["forecasts"][0]
    assert share == pytest.approx(planned["share"], abs=1e-6)
    said = run("edit", ROSES, MODEL, "-o", tmp_path / "b")
    assert f"goes {share:.0%} of the way to 'A pack of blue roses'" in said.out and "nearer" not in said.out
    assert "W" not in re.findall("32 matrices changed(.*)", said.out)[0], "sizes of matrices frighten and say little"
    assert "‖ΔW‖/‖W‖" in run("edit", ROSES, MODEL, "-o", tmp_path / "c", "--verbose").out, "the control"


def test_what_should_stay_and_shows_the_wrong_thing_before_is_not_called_wanted() -> None:
    row = Row("negative", "A baker", "A female baker")
    one = {"kind": "negative", "counts": True, "forecast": 0.1, "unedited": 1.0, "shown": 1.0, "likeness": 0.99}
    shows = {"before": lambda _: [], "after": lambda _: [], "oracle": lambda _: []}
    card = page.card(one | {"another_seed": 0.9}, row, shows, (0,))  # type: ignore[arg-type]
    assert card.facts["shows what it must not"] == "100% (before 100%)"
    assert "reached" in report._note(one | {"kind": "source", "another_seed": None})


def test_every_word_of_the_page_is_in_its_legend() -> None:
    assert {*report.INK} == {*page.KINDS}, "every kind of prompt"
    assert {"before", "oracle", "forecast", "kept", "reached", "another seed"} <= {*page.LEGEND}
    assert {*report.SCORES, "baseline"} <= {*page.LEGEND}, "every row and column of the scores"
