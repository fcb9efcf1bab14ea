"""Whatever draws or judges in a bench counts: a change of any part is another bench, in any process the same."""

from __future__ import annotations

import copy
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from timecli.drawing import digest
from timecli.drawing.judge import load_judge
from timecli.drawing.render import load_pipeline
from timecli.errors import CheckpointError
from timecli.models.checkpoint import open_checkpoint
from timecli.text import encoding

from .conftest import PICTUREBOOK, Run

MANIFEST = 'name = "x"\n[[edit]]\nsource = "A rose"\ndestination = "A blue rose"\n'
QUICK = ("--seeds", "1", "--steps", "1", "--guidance", "3")
CPU = torch.device("cpu")
IMAGE = Image.new("RGB", (64, 64), "red")


@pytest.fixture(scope="module")
def world(picturebook_folder: Path, forked: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, a judge, two reference pictures, and a bench that another process has finished."""
    path = tmp_path_factory.mktemp("world")
    shutil.copytree(picturebook_folder, path / "model")
    shutil.copytree(PICTUREBOOK / "judge", path / "judge")
    (path / "reference").mkdir()
    (path / "x.toml").write_text(MANIFEST)
    lines = ""
    for colour in ("red", "blue"):
        Image.new("RGB", (64, 64), colour).save(path / "reference" / f"{colour}.png")
        lines += json.dumps({"file_name": f"{colour}.png", "text": f"A {colour} rose"}) + "\n"
    (path / "reference" / "metadata.jsonl").write_text(lines)
    done = subprocess.run([*forked, *map(str, command(path))], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return path


def command(world: Path) -> tuple[object, ...]:
    files = ("--judge", world / "judge", "--reference", world / "reference")
    return ("bench", world / "x.toml", world / "model", "-o", world / "out", *QUICK, *files)


def nudged(name: str) -> Callable[[Path], None]:
    """Change one number of a tensor a little."""

    def change(path: Path) -> None:
        tensors = load_file(path)
        tensors[name].view(-1)[0] *= 1.01
        save_file(tensors, path, {"format": "pt"})

    return change


def replaced(one: str, other: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        text = path.read_text()
        assert one in text
        path.write_text(text.replace(one, other))

    return change


def swapped(path: Path) -> None:
    """Two words of a tokenizer exchange their numbers."""
    whole = json.loads(path.read_text())
    words = whole["model"]["vocab"] if "model" in whole else whole
    words["rose</w>"], words["blue</w>"] = words["blue</w>"], words["rose</w>"]
    path.write_text(json.dumps(whole))


def mean(path: Path) -> None:
    config = json.loads(path.read_text())
    config["image_mean"] = [0.4, 0.5, 0.5]
    path.write_text(json.dumps(config))


def test_the_same_command_goes_on_in_another_process(run: Run, world: Path) -> None:
    before = (world / "out" / "results.jsonl").read_bytes()
    done = run(*command(world))
    assert done.code == 0, done.err
    assert (world / "out" / "results.jsonl").read_bytes() == before


Changes = list[tuple[str, Callable[[Path], None]]]
REFUSED: Changes = [
    ("model/vae/diffusion_pytorch_model.safetensors", nudged("decoder.conv_in.weight")),
    ("model/unet/diffusion_pytorch_model.safetensors", nudged("conv_in.weight")),
    ("judge/preprocessor_config.json", mean),
    ("judge/tokenizer.json", swapped),
    ("reference/red.png", lambda path: IMAGE.resize((32, 32)).save(path)),
]
DIGESTED: Changes = [
    ("model/unet/config.json", replaced('"flip_sin_to_cos": true', '"flip_sin_to_cos": false')),
    ("model/vae/config.json", replaced('"scaling_factor": 0.68085', '"scaling_factor": 0.7')),
    ("model/scheduler/scheduler_config.json", replaced('"leading"', '"trailing"')),
    ("model/tokenizer/tokenizer.json", swapped),
    ("judge/model.safetensors", nudged("logit_scale")),
    ("judge/config.json", replaced("quick_gelu", "gelu")),
]


@contextmanager
def changed(path: Path, change: Callable[[Path], None]) -> Iterator[None]:
    whole = path.read_bytes()
    try:
        change(path)
        yield
    finally:
        path.write_bytes(whole)


@pytest.mark.parametrize(("name", "change"), REFUSED, ids=[name for name, _ in REFUSED])
def test_a_change_of_any_part_is_another_bench(
    name: str, change: Callable[[Path], None], run: Run, world: Path
) -> None:
    with changed(world / name, change):
        done = run(*command(world))
    assert done.code == 2 and "holds the results of another bench" in done.err, done.err


def digests(world: Path) -> tuple[str, str]:
    checkpoint = open_checkpoint(world / "model")
    pipeline = load_pipeline(checkpoint, encoding.read_text_encoder(checkpoint, None, CPU), CPU)
    return digest.of_pipeline(pipeline), digest.of_judge(load_judge(world / "judge", CPU))


@pytest.fixture(scope="module")
def undisturbed(world: Path) -> tuple[str, str]:
    return digests(world)


@pytest.mark.parametrize(("name", "change"), DIGESTED, ids=[name for name, _ in DIGESTED])
def test_configs_and_tokenizers_count(
    name: str, change: Callable[[Path], None], world: Path, undisturbed: tuple[str, str]
) -> None:
    with changed(world / name, change):
        pipeline, judge = digests(world)
    assert (pipeline != undisturbed[0], judge != undisturbed[1]) == (name[0] == "m", name[0] == "j")


def test_a_call_changes_no_digest(world: Path) -> None:
    """Tokenizers keep the padding of their last call."""
    judge = load_judge(world / "judge", CPU)
    before = digest.of_judge(judge)
    judge.choose([IMAGE], ["A rose", "A pack of blue roses"])
    assert digest.of_judge(judge) == before


def test_notes_in_a_config_are_no_change(world: Path, undisturbed: tuple[str, str]) -> None:
    for name in ("model/vae/config.json", "judge/config.json"):
        config = json.loads((world / name).read_text())
        config |= {"_name_or_path": "elsewhere", "_diffusers_version": "0.1", "transformers_version": "4.0"}
        (world / name).write_text(json.dumps(config))
    assert digests(world) == undisturbed


@pytest.fixture
def judge(tmp_path: Path) -> Path:
    return shutil.copytree(PICTUREBOOK / "judge", tmp_path / "judge")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["visual_projection.weight", "logit_scale", "text_model.final_layer_norm.bias"])
def test_a_judge_with_nan_is_named(name: str, value: float, judge: Path) -> None:
    load_judge(judge, CPU)  # the control
    tensors = load_file(judge / "model.safetensors")
    tensors[name].view(-1)[0] = value
    save_file(tensors, judge / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match=f"{judge}: {name} holds NaN or infinite values"):
        load_judge(judge, CPU)


def test_answers_of_nan_are_no_answers(judge: Path) -> None:
    sound = load_judge(judge, CPU)
    assert sound.choose([IMAGE], ["A red rose", "A blue rose"]) == [0]
    wrong = copy.deepcopy(sound)
    wrong.processor.image_processor.image_std = [0.0, 0.5, 0.5]
    with pytest.raises(CheckpointError, match="answers with NaN or infinite values"):
        wrong.choose([IMAGE], ["A red rose", "A blue rose"])
    with pytest.raises(CheckpointError, match="answers with NaN or infinite values"):
        wrong.described([IMAGE], ["A red rose"])
    config = json.loads((judge / "preprocessor_config.json").read_text())
    (judge / "preprocessor_config.json").write_text(json.dumps(config | {"image_std": [0.0, 0.5, 0.5]}))
    with pytest.raises(CheckpointError, match="answers with NaN or infinite values"):
        load_judge(judge, CPU)
