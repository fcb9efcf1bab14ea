"""A ruined model does not score 100: kept and reached, in verify and by hand."""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from timecli.drawing import verify
from timecli.drawing.judge import load_judge
from timecli.drawing.likeness import between_seeds, likeness, measured, yardstick
from timecli.drawing.verify import Score
from timecli.editing import compiling, forecast, preview
from timecli.manifests.manifest import parse
from timecli.manifests.rows import EVERYDAY, Row, everyday_rows, names, rows, speaks_of
from timecli.measuring import prompts
from timecli.models.checkpoint import Checkpoint, open_checkpoint
from timecli.text import encoding, everyday
from timecli.text.readers import TextEncoder

from .conftest import PICTUREBOOK, Run

CPU = torch.device("cpu")
TULIPS = """name = "yellow-tulips"
[[edit]]
source = "A tulip"
destination = "A yellow tulip"
positives = [{ prompt = "Tulips in the snow", destination = "Yellow tulips in the snow" }]
negatives = [
  { prompt = "A daisy", destination = "A yellow daisy" },
  { prompt = "A pig", destination = "A yellow pig" },
]
"""
PAPER = "[preserve]\neveryday = false\n"
UP, RIGHT = [1.0, 0.0], [0.0, 1.0]


def test_kept_and_reached_by_hand() -> None:
    table = [Row("source", "rose", "blue rose"), Row("negative", "poppy", "blue poppy"), Row("sample", "pig", None)]
    before = {"rose": [UP, UP], "blue rose": [RIGHT, UP], "poppy": [UP, UP], "pig": [UP, RIGHT]}
    after = {"rose": [RIGHT, RIGHT], "poppy": [UP, RIGHT], "pig": [UP, RIGHT]}
    seen = [lambda prompt, of=of: torch.tensor(of[prompt]) for of in (before, after)]
    assert measured(table, *seen) == {"kept": (1.0, 0.5), "reached": (1.0, 0.0)}
    assert yardstick(table, seen[0]) == {"kept": (0.5, 0.5), "reached": (0.0, 0.0)}
    assert likeness(table[0], *seen) == [1.0, 0.0], "against the oracle, not against before"
    assert measured([*table[:2], Row("sample", "pig", None, counts=False)], *seen)["kept"] == (1.0, 0.0)
    one = [lambda prompt, of=of: torch.tensor(of[prompt][:1]) for of in (before, after)]
    assert between_seeds(table[0], one[0]) is None and "another seed" not in verify.compared(table, *one)
    assert set(verify.compared(table, *seen)) == {"edited", "another seed"}, "the control"


@pytest.mark.parametrize(
    ("prompt", "source", "speaks"),
    [
        ("A vase of tulips", "A tulip", True),
        ("a TULIP.", "A tulip", True),
        ("Daisies in the snow", "A daisy", True),
        ("Two churches", "A church", True),
        ("A piglet", "A pig", True),
        ("CEOs", "A CEO", True),
        ("A barn in the snow", "A daisy in the snow", True),  # in doubt it has
        ("A barn with the door open", "A dog with the owner", False),
        ("A rose", "A tulip", False),
        ("A cartoon", "A car", False),
        ("A", "A", False),
    ],
)
def test_what_speaks_of_a_source(prompt: str, source: str, speaks: bool) -> None:
    assert speaks_of(prompt, names(source)) == speaks


def test_a_sample_counts_where_it_names_no_source() -> None:
    manifest = parse(f'{TULIPS}[verify]\nprompts = ["A vase of tulips", "A barn"]\n')
    assert [row.counts for row in rows(manifest) if row.kind == "sample"] == [False, True]


@pytest.mark.usefixtures("all_everyday_prompts")
def test_everyday_rows_are_spread_and_about_nothing_that_should_follow() -> None:
    table = rows(parse(TULIPS))
    listed = [f"A thing number {i}" for i in range(100)]
    chosen = [row.prompt for row in everyday_rows(listed, table)]
    assert chosen == [listed[i * 100 // EVERYDAY] for i in range(EVERYDAY)]
    about = ["", "A daisy", "A yellow pig", "a tulip", "Tulips", "A field of tulips"]
    assert everyday_rows(about, table) == []
    few = everyday_rows([*about, "A barn", "A hat"], table)
    assert [(row.kind, row.prompt, row.counts) for row in few] == [("everyday", p, True) for p in ("A barn", "A hat")]
    other = rows(parse(TULIPS.replace("ulip", "oad")))
    assert "Tulips" in [row.prompt for row in everyday_rows(about, other)], "the control"
    for words in (everyday.shipped(), everyday.listed((PICTUREBOOK / "config" / "everyday.txt").read_text())):
        found = [row.prompt for row in everyday_rows(words, table)]
        assert len(found) == EVERYDAY and not any("tulip" in prompt.lower() for prompt in found)


def test_a_blot_is_no_daisy() -> None:
    sys.path.insert(0, str(PICTUREBOOK))
    import world

    table = [Row("negative", "A daisy", "A yellow daisy")]
    drawn = [world.draw(world.likely(world.Request("daisy")), random.Random(seed)) for seed in range(4)]
    judge = load_judge(PICTUREBOOK / "judge", CPU)
    blot = [Image.new("RGB", (64, 64), "gray")] * 4
    ruined = verify.measured_by(judge, table, {"A daisy": drawn}, {"A daisy": blot})["edited"]
    assert ruined["specificity"].mean == 1, "it shows no yellow daisy"
    assert ruined["kept"].mean < 0.5
    same = verify.measured_by(judge, table, {"A daisy": drawn}, {"A daisy": drawn})
    assert same["edited"]["kept"].mean == pytest.approx(1) and same["another seed"]["kept"].mean > 0.7, "the control"


def test_thresholds_of_cosines() -> None:
    manifest = parse(f"{TULIPS}[verify]\nkept = 0.9\nreached = 0.5\n")
    assert verify.demanded(manifest) == ["kept", "reached"]
    found = verify.missed(manifest, {"kept": Score((0.8, 0.9)), "reached": Score((0.5,))})
    assert found == [
        "kept is 0.850, below the 0.900 that yellow-tulips asks for; preserve more by name, or lower the strength."
    ]


@pytest.mark.usefixtures("all_everyday_prompts")
@pytest.mark.parametrize("way", ["time", "everyday"])
def test_a_ruined_model_does_not_score_100(way: str, run: Run, picturebook: Path, tmp_path: Path) -> None:
    """Both meet every threshold of the paper's metrics that they are held to; one has destroyed its neighbours."""
    text = f"{TULIPS}{PAPER if way == 'time' else ''}[verify]\nefficacy = 1.0\nspecificity = 1.0\nkept = 0.9\n"
    (tmp_path / "x.toml").write_text(text)
    drawing = ("--seeds", "2", "--steps", "4", "--guidance", "3")
    done = run("verify", tmp_path / "x.toml", picturebook, "-o", tmp_path / "out", *drawing, "--json")
    found = json.loads(done.out)
    edited, each = found["scores"]["edited"], found["prompts"]
    assert edited["efficacy"]["mean"] == edited["specificity"]["mean"] == 1
    assert found["scores"]["another seed"]["kept"]["mean"] > 0.8
    shown = len(each) - 4  # without the everyday world nobody knows which of it move most
    assert shown == EVERYDAY if way == "time" else EVERYDAY < shown <= 2 * EVERYDAY
    assert [one["kind"] for one in each[4:]] == ["everyday"] * shown
    assert [one["forecast"] is None for one in each] == [False] * 4 + [True] * shown
    assert all(-1 <= one["likeness"] <= 1 and one["another_seed"] is not None for one in each)
    page, sheet = (tmp_path / "out" / "report.md").read_text(), Image.open(tmp_path / "out" / "sheet.png")
    assert page.count("\n| everyday | ") == shown and sheet.height > 12 * 100
    kept, worst = edited["kept"]["mean"], edited["worst"]["mean"]
    assert worst == min(one["likeness"] for one in each[4:]) < kept
    if way == "time":
        assert kept < 0.6 and done.code == 1, done.err
        assert f"kept is {kept:.3f}, below the 0.900 that yellow-tulips asks for" in done.err
        assert f"less like before ({kept:.3f}) than with another seed" in done.err, "whatever is asked for"
    else:
        assert kept > 0.95 and done.code == 0 and "kept is" not in done.err, done.err


def test_an_edit_that_changes_too_much_is_said(run: Run, picturebook: Path, tmp_path: Path) -> None:
    """Where the everyday world is preserved, large matrices say nothing: they change most where nothing everyday is."""
    (tmp_path / "time.toml").write_text(TULIPS + PAPER)
    (tmp_path / "everyday.toml").write_text(TULIPS)
    (tmp_path / "hardly.toml").write_text(f"{TULIPS}[preserve]\neveryday_weight = 1e-6\n")
    sentence, suffers = "changes 32 of 32 matrices by more than half of their size", "else in the model will suffer"
    made = {}
    for name in ("time", "everyday", "hardly"):
        out, delta = tmp_path / name, tmp_path / f"{name}.delta"
        made[name] = run("edit", tmp_path / f"{name}.toml", picturebook, "-o", out, "--delta", delta, "--json")
        assert made[name].code == 0, made[name].err
    assert sentence in made["time"].err and suffers in made["time"].err
    assert suffers not in made["everyday"].err, "the control"
    assert json.loads(made["everyday"].out)["change"]["median"] > 0.5, "which is no fault"
    assert "moves the everyday prompts by " in made["hardly"].err and suffers in made["hardly"].err
    again = run("apply", tmp_path / "time.delta", picturebook, "-o", tmp_path / "again")
    assert again.code == 0 and sentence in again.err
    for arguments in (("time.delta", "--strength", "0.1"), ("everyday.delta",)):
        less = run("apply", tmp_path / arguments[0], picturebook, "-o", tmp_path / "less", "--force", *arguments[1:])
        assert less.code == 0 and suffers not in less.err
    back = run("apply", tmp_path / "time.delta", tmp_path / "time", "--undo", "-o", tmp_path / "back")
    assert back.code == 0 and suffers not in back.err, back.err


def test_a_test_pair_without_a_common_word_has_no_forecast(run: Run, picturebook: Path, tmp_path: Path) -> None:
    checkpoint = open_checkpoint(picturebook)
    encoder = encoding.read_text_encoder(checkpoint, None, CPU)
    delta = compiling.compile_edit(parse(TULIPS + PAPER), checkpoint, encoder, CPU)
    metric = forecast.metric(checkpoint, delta.origin, encoder)
    asked = [("A tulip", "A yellow tulip"), ("Tulips", "yellow flower"), ("A pig", None)]
    found = forecast.told(asked, encoder, delta.operator, metric)
    assert found[1:] == [None, None] and found[:1] == forecast.shares(asked[:1], encoder, delta.operator, metric)
    assert forecast.told(asked[1:], encoder, delta.operator, metric) == [None, None]
    (tmp_path / "x.toml").write_text(TULIPS.replace("Yellow tulips in the snow", "Yellow piglet"))
    for command in ("plan", "verify"):
        more = ("-o", tmp_path / "out", "--seeds", "1", "--steps", "1") if command == "verify" else ()
        done = run(command, tmp_path / "x.toml", picturebook, *more)
        assert done.code == 0, done.err


def test_how_good_forecasts_are_is_counted_by_hand() -> None:
    assert prompts.auc([0.9, 0.4], [0.1, 0.4]) == pytest.approx((1 + 1 + 1 + 0.5) / 4)
    assert prompts.auc([1.0], []) is None
    about = ("a rose", "a blue rose")
    told = [
        prompts.Drawn("time", "x", "source", *about, share, drawn, None, None) for share, drawn in ((9, 1), (-9, 0))
    ]
    untold = prompts.Drawn("finetune", "x", "source", *about, None, 1.0, 0.5, None)
    page = "\n".join(prompts.agreement([*told, untold]))
    assert "| time | 2 | 1.000 | 0.000 |" in page and "finetune" not in page
    assert list(prompts.agreement([untold])) == []
    assert "| x | source | a rose | a blue rose | - | 100% | 0.500 | - |" in prompts.page("title", [untold])


def test_of_several_edits_what_any_of_them_moves_most_comes_first(model: Checkpoint, encoder: TextEncoder) -> None:
    """Two edits move different prompts most, and the first of both is the first of one of them."""
    tasks = [parse(TULIPS), parse(TULIPS.replace("tulip", "car").replace("yellow", "red"))]
    world = everyday.measured(tasks[0], encoder)
    deltas = [compiling.compile_edit(task, model, encoder, torch.device("cpu"), world) for task in tasks]
    firsts = [preview.moving(tasks[0], model, encoder, [delta], world)[0] for delta in deltas]
    found = preview.moving(tasks[0], model, encoder, deltas, world)
    assert found[0] in firsts and len({*firsts}) == 2
    told = preview.preview(tasks[0], model, encoder, deltas[0], world)
    far = [moved for _, moved in told.most]
    assert told.most[0][0] == firsts[0] and far == sorted(far, reverse=True) and far[0] > (told.everyday or 1.0)
    metric = forecast.metric(model, deltas[0].origin, encoder)
    kept = forecast.kept([prompt for prompt, _ in told.most], encoder, deltas[0].operator, metric)
    assert told.metrics["worst"] == pytest.approx(min(kept), abs=1e-6) and min(kept) < max(kept) - 1e-3
