"""The examples run, and do what the command line does."""

import json
import math
import subprocess
import sys
from pathlib import Path

from .conftest import ROOT, ROSES, Run


def test_in_python_gives_the_bytes_of_the_command_line(run: Run, picturebook: Path, tmp_path: Path) -> None:
    command = [sys.executable, ROOT / "examples" / "in_python.py", ROSES, picturebook, tmp_path / "a"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    shares = {line.split(": ")[0]: int(line.split("goes ")[1].split("%")[0]) for line in done.stdout.splitlines()}
    assert shares["A pack of roses"] > shares["Tulips"]
    assert run("edit", ROSES, picturebook, "-o", tmp_path / "b").code == 0
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_in_python_answers_mistakes_in_one_sentence(picturebook: Path, tmp_path: Path) -> None:
    script = ROOT / "examples" / "in_python.py"
    for arguments, sentence in (([ROSES], "give all three."), ([tmp_path / "x", picturebook, "a"], "No such file")):
        done = subprocess.run([sys.executable, script, *arguments], capture_output=True, text=True)
        assert done.returncode == 2 and sentence in done.stderr and done.stderr.count("\n") == 1, done.stderr


def test_the_world_reads_its_own_captions() -> None:
    script = (
        "import random, phrases\n"
        "for seed in range(2000):\n"
        "    rng = random.Random(seed)\n"
        "    caption, request = phrases.sample(rng)\n"
        "    assert phrases.parse(caption) == request, caption\n"
        "    twin = phrases.vary(request, rng)\n"
        "    assert phrases.parse(phrases.caption(twin, rng)) == twin != request\n"
    )
    folder = ROOT / "examples" / "picturebook"
    subprocess.run([sys.executable, "-c", script], cwd=folder, check=True)


def test_the_curve_of_forecasts_is_found_again(forked: list[str], tmp_path: Path) -> None:
    """From shares of pictures that lie on a curve; rows without a forecast count for nothing."""
    rows = [
        {"configuration": "a", "forecast": x / 50, "shown": 1 / (1 + math.exp(6 * (0.7 - x / 50)))}
        for x in range(-10, 70)
    ]
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in [*rows, {**rows[0], "forecast": None}]))
    script = ROOT / "examples" / "picturebook" / "curve.py"
    code = "import runpy, sys; del sys.argv[0]; runpy.run_path(sys.argv[0], run_name='__main__')"
    done = subprocess.run([*forked, "-c", code, script, path], capture_output=True, text=True, check=True)
    assert "half 0.700, steep 6.00" in done.stdout and "80 prompts, mean error 0.000," in done.stdout
    assert "of the curve in use 0.000" not in done.stdout, "the control: plan's own curve is another"


def test_the_cards_joint_edits_are_spread_over_all_things() -> None:
    """Of different things, so many of the 35, none twice."""
    script = (
        "import variants\n"
        "names = [task.name for task in variants.together()]\n"
        "assert len(names) == 35 and len(set(task.edits[0].source for task in variants.together())) == 35\n"
        "for count in variants.JOINT:\n"
        "    own = [task.name for task in variants.some(count, 'test')]\n"
        "    assert len(set(own)) == count and {*own} < {*names}\n"
        "    assert max(map(names.index, own)) > 35 - 2 * 35 / count\n"
    )
    subprocess.run([sys.executable, "-c", script], cwd=ROOT / "examples" / "picturebook", check=True)


def test_what_joint_edits_reach_is_counted_over_all_prompts() -> None:
    """By kind, with what should stay and what should follow apart."""
    rows = [
        {"edit": "a", "prompt": str(i), "shown": shown, "likeness": likeness}
        for i, (shown, likeness) in enumerate([(1.0, 0.9), (0.5, 0.7), (0.25, 0.6), (0.0, 1.0)])
    ]
    kinds = {("a", str(i)): kind for i, kind in enumerate(("source", "positive", "negative", "explicit"))}
    script = f"import joint; print(joint.line('all', {rows!r}, {kinds!r}))"
    folder = ROOT / "examples" / "picturebook"
    done = subprocess.run([sys.executable, "-c", script], cwd=folder, capture_output=True, text=True, check=True)
    assert done.stdout == "| all | 100.0 | 50.0 | 75.0 | 100.0 | 69.2 | 0.800 | 0.800 |\n"
