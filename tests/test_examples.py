"""The examples run, and do what the command line does."""

import subprocess
import sys
from pathlib import Path

from safetensors.torch import load_file

from .conftest import ROOT, Run


def test_in_python_gives_the_weights_of_the_command_line(run: Run, picturebook: Path, tmp_path: Path) -> None:
    script = ROOT / "examples" / "in_python.py"
    command = [sys.executable, script, picturebook, tmp_path / "a"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    moves = {line.split(": ")[0]: float(line.split("by ")[1].split("%")[0]) for line in done.stdout.splitlines()}
    assert moves["A pack of roses"] > moves["A dog"]
    (tmp_path / "x.toml").write_text(script.read_text().split('"""')[3])
    assert run("edit", tmp_path / "x.toml", picturebook, "-o", tmp_path / "b").code == 0
    one, other = load_file(tmp_path / "a"), load_file(tmp_path / "b")
    assert all((one[name] == other[name]).all() for name in one)


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
