"""A bench that is stopped, killed, or spread over workers that die ends in the same bytes as one that is not."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from timecli import cli
from timecli.manifests.manifest import load
from timecli.measuring import bench, schedule, tables
from timecli.measuring.schedule import BASE

from .conftest import PICTUREBOOK, Run

EDITS = sorted((Path(__file__).parent / "data" / "bench").glob("*.toml"))
SMALL = ["--seeds", "2", "--steps", "1", "--guidance", "3"]
"""Too little for good pictures, enough for numbers that must not change."""
GRID = ["--grid", "lambda=0.1,1000", "--method", "time", "--method", "uce", "--method", "finetune", "--iterations", "2"]


def command(folder: Path, picturebook: Path, *more: str) -> list[str]:
    return ["bench", *map(str, EDITS), str(picturebook), "-o", str(folder), *SMALL, *GRID, *more]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bench") / "out"
    with pytest.raises(SystemExit) as stop:
        cli.main(command(folder, PICTUREBOOK / "picturebook.safetensors"))
    assert not stop.value.code
    return folder


def test_there_is_a_line_for_every_group_and_a_row_for_every_configuration(undisturbed: Path) -> None:
    head, *lines = (undisturbed / "results.jsonl").read_text().splitlines()
    assert json.loads(head)["seeds"] == [0, 1]
    rows = [json.loads(line) for line in lines]
    assert all(len(answers) == 2 for row in rows for answers in row["answers"])
    models = list(dict.fromkeys(row["model"] for row in rows))
    names = ["time λ=0.1", "time λ=1000", "uce", "finetune η=0.01"]
    assert models == [BASE, *(f"{name}/{path.stem}" for name in names for path in EDITS)]
    page = (undisturbed / "table.md").read_text()
    assert all(f"\n| {name} | " in page for name in ("baseline", "oracle", *names))
    for name in ("tradeoff.png", "edits.png"):
        assert (undisturbed / name).read_bytes().startswith(b"\x89PNG")
    assert len(list((undisturbed / "weights").iterdir())) == len(EDITS), "what takes long to make is kept"


def test_the_table_is_what_the_answers_say(undisturbed: Path) -> None:
    manifests = [load(path) for path in EDITS]
    wanted = schedule.configurations(["time"], {"lambda": [0.1, 1000.0]}, False)
    found = tables.collect(schedule.jobs(manifests, wanted, False), bench.load(undisturbed / "results.jsonl"))
    total = tables.total(tables.merged(found[:2], "edited"))
    row = next(r for r in (undisturbed / "table.md").read_text().splitlines() if r.startswith("| time λ=0.1 |"))
    assert f"{total['generality'].mean:.1%} ± {total['generality'].std:.1%}" in row


def test_every_prompt_has_its_forecast_beside_what_was_drawn(undisturbed: Path) -> None:
    found = [json.loads(line) for line in (undisturbed / "prompts.jsonl").read_text().splitlines()]
    manifests = [load(path) for path in EDITS]
    tests = sum(1 + len(e.positives) + len(e.negatives) + len(e.explicit) for m in manifests for e in m.edits)
    assert len(found) == 4 * tests and {row["kind"] for row in found} == {"source", "positive", "negative", "explicit"}
    assert all((row["forecast"] is None) == row["configuration"].startswith("finetune") for row in found)
    assert all(0 <= row["shown"] <= 1 and -1 <= row["likeness"] <= 1 for row in found)
    seen = bench.load_seen(undisturbed / "results.jsonl")
    for row in found:
        model, goal = f"{row['configuration']}/{row['edit']}", row["prompt"]
        if row["kind"] in ("source", "positive"):
            goal = row["destination"]
        cosine = (seen[model, row["prompt"]] * seen[BASE, goal]).sum(1).mean().item()
        assert row["likeness"] == pytest.approx(cosine, abs=1e-4)
    page = (undisturbed / "table.md").read_text()
    assert [text in page for text in ("| kept | reached |", "\n| another seed | ")] == [True, True]
    told = page.split("## Forecast and drawn")[1].splitlines()
    assert [line.split(" | ")[0][2:] for line in told if f" | {tests} | " in line] == [
        "time λ=0.1",
        "time λ=1000",
        "uce",
    ]


@pytest.mark.parametrize("end", [1, 39, -4])
def test_cut_anywhere_it_goes_on_and_ends_in_the_same_bytes(
    end: int, undisturbed: Path, run: Run, picturebook: Path, tmp_path: Path
) -> None:
    """Cut within the first line, within a batch and between batches; the kept weights are gone, too."""
    whole = (undisturbed / "results.jsonl").read_bytes()
    lines = whole.splitlines(keepends=True)
    (tmp_path / "results.jsonl").write_bytes(b"".join(lines[:end]) + lines[end][:10])
    shutil.copytree(undisturbed / "pictures", tmp_path / "pictures")  # drawn for the page alone
    assert run(*command(tmp_path, picturebook)).code == 0
    for name in ("results.jsonl", "table.md", "prompts.md", "prompts.jsonl"):
        assert (tmp_path / name).read_bytes() == (undisturbed / name).read_bytes()


def test_stopped_half_way_it_says_so_and_goes_on(
    undisturbed: Path, picturebook: Path, run: Run, forked: list[str], tmp_path: Path
) -> None:
    process = subprocess.Popen([*forked, *command(tmp_path, picturebook)], stderr=subprocess.PIPE, text=True)
    results = tmp_path / "results.jsonl"
    while not results.exists() or results.read_bytes().count(b"\n") < 4:
        assert process.poll() is None, "it must be killed before it ends"
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode == 130 and errors.endswith("and the same command goes on where it was.\n"), errors
    whole = (undisturbed / "results.jsonl").read_bytes()
    assert 0 < results.stat().st_size < len(whole)
    shutil.copytree(undisturbed / "pictures", tmp_path / "pictures")
    assert run(*command(tmp_path, picturebook)).code == 0
    assert results.read_bytes() == whole


def test_on_ray_with_a_killed_worker_the_table_is_the_same(
    undisturbed: Path, picturebook: Path, tmp_path: Path
) -> None:
    pytest.importorskip("ray")
    arguments = command(tmp_path / "out", picturebook, "--ray", "local")
    process = subprocess.Popen(
        [sys.executable, "-m", "timecli", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    killed = False
    while process.poll() is None:
        workers = [] if killed else busy_workers(process.pid)
        if workers:
            os.kill(workers[0], signal.SIGKILL)
            killed = True
        time.sleep(0.02)
    assert process.stdout is not None
    assert process.returncode == 0, process.stdout.read()
    assert killed, "a worker must have died"
    for name in ("results.jsonl", "table.md"):
        assert (tmp_path / "out" / name).read_bytes() == (undisturbed / name).read_bytes()


def busy_workers(driver: int) -> list[int]:
    """Processes in which Ray draws a batch for this driver."""
    import psutil

    found = []
    for process in psutil.Process(driver).children(recursive=True):
        try:
            if process.cmdline()[:1] == ["ray::_judged"]:
                found.append(process.pid)
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
    return found


def test_another_bench_in_the_same_folder_is_refused(undisturbed: Path, run: Run, picturebook: Path) -> None:
    before = (undisturbed / "results.jsonl").read_bytes()
    done = run(*command(undisturbed, picturebook, "--seeds", "3"))
    assert done.code == 2 and "holds the results of another bench" in done.err
    done = run(*command(undisturbed, picturebook, "--grid", "matrices=v"))
    assert done.code == 2 and "is not of this bench" in done.err
    less = [
        *command(undisturbed, picturebook)[: -len(GRID)],
        "--method",
        "time",
        "--grid",
        "lambda=0.1",
        "--iterations",
        "2",
    ]
    done = run(*less)
    assert done.code == 2 and "holds more than this bench draws" in done.err
    assert (undisturbed / "results.jsonl").read_bytes() == before


def test_a_joint_edit_of_all_manifests(run: Run, picturebook: Path, tmp_path: Path) -> None:
    done = run(
        "bench", *EDITS, picturebook, "-o", tmp_path, *SMALL, "--seeds", "1", "--method", "time", "--bulk",
        "--grid", "lambda=100",
    )  # fmt: skip
    assert done.code == 0, done.err
    models = {json.loads(line)["model"] for line in (tmp_path / "results.jsonl").read_text().splitlines()[1:]}
    assert models == {BASE, "time bulk λ=100"} and "| time bulk λ=100 | " in (tmp_path / "table.md").read_text()


def test_a_balance_and_what_edits_do_to_each_other(run: Run, picturebook: Path, tmp_path: Path) -> None:
    professions = sorted((PICTUREBOOK / "bench" / "professions").glob("*.toml"))[:2]
    done = run("bench", *professions, picturebook, "-o", tmp_path, *SMALL, "--seeds", "1", "--cross")
    assert done.code == 0, done.err
    assert "share of the first description" in done.out and "| **all** | " in done.out
    assert "\n| oracle | " in done.out and "| explicit before | after |" in done.out
    told = [json.loads(line) for line in (tmp_path / "prompts.jsonl").read_text().splitlines()]
    assert [row["prompt"] for row in told] == ["A male baker", "A male carpenter"], "what is crossed names no side"
    assert (tmp_path / "cross.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--grid", "lamda=1"], "use lambda, weight, strength, matrices, augment, eta"),
        (["--grid", "lambda=many"], "'many' is not a number"),
        (["--grid", "eta=1"], "add --method finetune"),
        (["--grid", "weight=1"], "blue-rose does not preserve everyday prompts; --grid weight needs that."),
        (["--method", "esd"], "use manifest, time, everyday, uce, finetune, embedit"),
    ],
)
def test_bad_options_are_named(
    arguments: list[str], sentence: str, run: Run, picturebook: Path, tmp_path: Path
) -> None:
    done = run("bench", EDITS[0], picturebook, "-o", tmp_path / "out", *arguments)
    assert done.code == 2 and sentence in done.err and not (tmp_path / "out").exists(), done.err


def test_manifests_that_are_drawn_otherwise_than_each_other_are_refused_unless_an_option_decides(
    run: Run, picturebook: Path, tmp_path: Path
) -> None:
    (tmp_path / "x.toml").write_text(EDITS[0].read_text().replace("blue-rose", "x") + "\n[verify]\nsteps = 4\n")
    command = ["bench", EDITS[0], tmp_path / "x.toml", picturebook, "-o", tmp_path / "out"]
    done = run(*command, "--guidance", 3)
    assert done.code == 2 and "has no verify.steps and x has verify.steps 4; decide with --steps." in done.err
    assert not (tmp_path / "out").exists()
    assert "verify.steps" not in run(*command, "--steps", 1, "--grid", "lamda=1").err, "the control"


def test_without_a_method_the_edits_are_the_manifests_own(run: Run, picturebook: Path, tmp_path: Path) -> None:
    """A strength, which the paper's way does not have: the forecast tells which edit was made."""
    text = EDITS[0].read_text()
    (tmp_path / "x.toml").write_text(f"{text}\n[solve]\nstrength = 0.5\n")
    how = ("--seeds", 1, "--steps", 1, "--guidance", 3)
    done = run("bench", tmp_path / "x.toml", picturebook, "-o", tmp_path / "out", *how)
    assert done.code == 0 and "\n| manifest | " in done.out, done.err
    source = json.loads((tmp_path / "out" / "prompts.jsonl").read_text().splitlines()[0])
    assert source["kind"] == "source" and source["forecast"] == pytest.approx(0.5, abs=0.1), "half of the way"


def test_layers_that_the_model_has_not_are_refused(run: Run, picturebook: Path, tmp_path: Path) -> None:
    text = f"{EDITS[0].read_text()}\n[solve]\nlayers = [20]\n"
    (tmp_path / "x.toml").write_text(text)
    done = run("bench", tmp_path / "x.toml", picturebook, "-o", tmp_path / "out")
    assert done.code == 2 and "has no cross-attention layer 20" in done.err and not (tmp_path / "out").exists()


def test_a_manifest_without_positives_is_measured_on_what_it_has(run: Run, picturebook: Path, tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text('name = "x"\n[[edit]]\nsource = "A rose"\ndestination = "A blue rose"\n')
    done = run("bench", tmp_path / "x.toml", EDITS[0], picturebook, "-o", tmp_path / "out", *SMALL, "--seeds", "1")
    assert done.code == 0, done.err
    assert "| x | - | " in (tmp_path / "out" / "table.md").read_text()
