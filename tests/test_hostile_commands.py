"""Damaged inputs through whole commands: exit 0, 1 or 2, a sentence, nothing that terminals obey, nothing half done."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from . import damage
from .conftest import PICTUREBOOK, Outcome, Run, small_tensors
from .damage import Case, Sound

COUNT = 1_000
"""`HOSTILE=20000` runs more of them, `HOSTILE=1234:1235` that one alone."""
OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
SECONDS = 20


def numbers() -> range:
    first, _, last = os.environ.get("HOSTILE", f"0:{COUNT}").rpartition(":")
    return range(int(first or 0), int(last))


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Matrices this small are multiplied sooner than other threads wake up."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def sound(run: Run, tmp_path: Path) -> Sound:
    folder = tmp_path / "sound"
    shutil.copytree(PICTUREBOOK / "config", folder / "config")
    config = json.loads((folder / "config" / "text_encoder" / "config.json").read_text())
    sizes = {"hidden_size": 64, "num_attention_heads": 1, "num_hidden_layers": 1, "intermediate_size": 128}
    (folder / "config" / "text_encoder" / "config.json").write_text(json.dumps({**config, **sizes}))
    files = [folder / name for name in ("model.safetensors", "edited.safetensors", "x.delta", "x.toml", "config")]
    made = Sound(*files)
    made.manifest.write_text(damage.MANIFEST)
    foreign = {"sd_merge_models": '{"a": {"name": "b"}}', "sd_merge_recipe": '{"type": "c"}', "modelspec.title": "d"}
    save_file(small_tensors(vocabulary=934, rows=2), made.model, {"format": "pt", **foreign})
    done = run("edit", made.manifest, made.model, "-o", made.edited, "--delta", made.delta)
    assert done.code == 0, done.err
    return made


def fault(case: Case, done: Outcome, seconds: float, files: list[Path]) -> str | None:
    """What is wrong with an outcome."""
    if done.code not in (0, 1, 2):
        return f"exit {done.code}"
    if obeyed := OBEYED.search(done.out + done.err):
        return f"{obeyed[0]!r} in the output"
    if strange := [line for line in done.err.splitlines() if not line.startswith(("timecli: ", "its prompts were "))]:
        return f"stderr has {strange[0]!r}"
    sentences = [line for line in done.err.splitlines() if not line.startswith("timecli: warning: ")]
    if done.code == 2 and not all(line.endswith((".", "?", "`")) for line in sentences or ["nothing"]):
        return "no sentence"
    if done.code == 2 and case.arguments[0] != "plan" and len(sentences) != 1:
        return f"{len(sentences)} sentences"
    if done.code and files:
        return f"{files[0].name} was written"
    if any(file.name.startswith(".") for file in files):
        return "litter"
    if done.code == 0 and "--json" in case.arguments:
        json.loads(done.out)
    return f"{seconds:.0f} s" if seconds > SECONDS else None


@pytest.mark.usefixtures("one_thread")
def test_every_damaged_input_ends_in_a_sentence(run: Run, sound: Sound, tmp_path: Path) -> None:
    seen: Counter[tuple[str, int]] = Counter()
    for number in numbers():
        folder = tmp_path / str(number)
        folder.mkdir()
        case = damage.case(number, sound, folder)
        started = time.perf_counter()
        done = run(*case.arguments)
        files = [file for file in (folder / "out").rglob("*") if file.is_file()]
        wrong = fault(case, done, time.perf_counter() - started, files)
        assert wrong is None, (
            f"{wrong}\n{case.kind}, HOSTILE={number}:{number + 1}\ntimecli {' '.join(case.arguments)}\n"
            f"exit {done.code}: {done.err!r}\n{case.path.read_bytes()[:2000]!r}"
        )
        seen[case.kind, done.code] += 1
        shutil.rmtree(folder)
    for (kind, code), count in sorted(seen.items()):
        print(f"{kind}: exit {code} {count} times")
    if not numbers().start and len(numbers()) >= COUNT:  # elsewhere a kind that is seldom read may be missing
        for kind in damage.KINDS:
            assert seen[kind, 2] > 0 and seen[kind, 0] > 0, f"{kind}: {seen}"
