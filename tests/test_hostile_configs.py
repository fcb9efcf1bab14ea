"""Configs that ask for more than the weights have: a sentence before anything is built, whatever is left out."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_parameter_registration_hook,
)

from timecli.drawing.judge import load_judge
from timecli.errors import CheckpointError

from . import small
from .conftest import PICTUREBOOK, ROOT, Run, small_manifest
from .test_transformers import manifest

__all__ = ["manifest"]  # the fixture
MOST, SECONDS = 2**23, 30
"""Numbers that a test's largest real tensor stays below, and what no refusal takes."""
LAYERS = 10**7
WIDE = {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4, "partial_rotary_factor": 1e8}
"""Positions that are turned by hundreds of millions of frequencies, which are no weights."""


@pytest.fixture
def built() -> Iterator[list[int]]:
    """The sizes of parameters and buffers that were made in memory."""
    sizes: list[int] = []

    def counted(_module: torch.nn.Module, _name: str, tensor: torch.Tensor | None) -> None:
        if tensor is not None and not tensor.is_meta:
            sizes.append(tensor.numel())

    hooks = [register_module_parameter_registration_hook(counted), register_module_buffer_registration_hook(counted)]
    yield sizes
    for hook in hooks:
        hook.remove()


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    folder = tmp_path_factory.mktemp("sound")

    def saved(family: str) -> Path:
        return folder / family if (folder / family).exists() else small.saved(family, folder / family)

    return saved


def written(path: Path, change: dict[str, Any], *gone: str) -> None:
    table = {**json.loads(path.read_text()), **change}
    path.write_text(json.dumps({key: value for key, value in table.items() if key not in gone}))


TEXTS: dict[str, tuple[str, str, dict[str, Any], tuple[str, ...]]] = {
    "CLIP, many layers": ("flux", "text_encoder", {"num_hidden_layers": LAYERS}, ()),
    "CLIP, many words": ("flux", "text_encoder", {"vocab_size": 10**9}, ()),
    "CLIP, many positions": ("flux", "text_encoder", {"max_position_embeddings": 10**12}, ()),
    "CLIP, defaults": ("flux", "text_encoder", {}, ("vocab_size", "intermediate_size", "num_hidden_layers")),
    "T5, many layers": ("flux", "text_encoder_2", {"num_layers": LAYERS}, ()),
    "T5, wide heads": ("flux", "text_encoder_2", {"d_kv": 10**9}, ()),
    "T5, defaults": ("flux", "text_encoder_2", {}, ("vocab_size", "d_ff", "num_layers", "d_kv")),
    "Qwen3, many layers": ("z-image", "text_encoder", {"num_hidden_layers": LAYERS}, ("layer_types",)),
    "Qwen3, long list": ("z-image", "text_encoder", {"layer_types": ["full_attention"] * 10**5}, ()),
    "Qwen3, wide heads": ("z-image", "text_encoder", {"head_dim": 10**9}, ()),
    "Qwen3, defaults": ("z-image", "text_encoder", {}, ("intermediate_size", "num_attention_heads", "vocab_size")),
    "Qwen3, many labels": ("z-image", "text_encoder", {"num_labels": 10**9}, ()),
    "Qwen3, many frequencies": ("z-image", "text_encoder", {"rope_parameters": WIDE}, ()),
    "CLIP, many labels": ("flux", "text_encoder", {"num_labels": 10**9}, ()),
    "Qwen2.5, no text": ("qwen-image", "text_encoder", {}, ("text_config",)),
    "Qwen2.5, text of null": ("qwen-image", "text_encoder", {"text_config": None}, ()),
    "Qwen2.5, eyes by default": ("qwen-image", "text_encoder", {"vision_config": {}}, ()),
    "Qwen2.5, deep eyes": ("qwen-image", "text_encoder", {"vision_config": {"depth": LAYERS, "hidden_size": 16}}, ()),
}


@pytest.mark.parametrize("case", TEXTS)
def test_text_encoders(
    case: str, sound: Callable[[str], Path], run: Run, built: list[int], manifest: Path, tmp_path: Path
) -> None:
    family, part, change, gone = TEXTS[case]
    shutil.copytree(sound(family), tmp_path / "model")
    written(tmp_path / "model" / part / "config.json", change, *gone)
    started = time.perf_counter()
    done = run("plan", manifest, tmp_path / "model", "--no-cache")
    assert done.code == 2 and done.err.count("\n") == 1 and str(tmp_path / "model") in done.err, done.err
    assert done.err.startswith("timecli: ") and len(done.err) < 1000
    assert time.perf_counter() - started < SECONDS and max(built, default=0) < MOST


def test_the_sizes_that_were_built_can_be_told(built: list[int]) -> None:
    """The control: as it is without a look at the weights."""
    transformers.CLIPTextModel(transformers.CLIPTextConfig(num_hidden_layers=1))
    assert max(built) > MOST


PARTS: dict[str, tuple[str, dict[str, Any] | str, tuple[str, ...], str]] = {
    "UNet, nothing": ("unet/config.json", "{}", (), "larger than its weights"),
    "UNet, missing sizes": ("unet/config.json", {"_class_name": "X"}, ("block_out_channels",), "larger than"),
    "UNet, wide": ("unet/config.json", {"block_out_channels": [4096] * 4}, (), "larger than its weights"),
    "UNet, deep": ("unet/config.json", {"layers_per_block": 12}, (), "cannot be loaded for drawing"),
    "UNet, no such kind": ("model_index.json", {"unet": ["diffusers", "X"]}, (), "unet is 'X', which is no class"),
    "UNet, another kind": ("model_index.json", {"unet": ["diffusers", "PriorTransformer"]}, (), "is no class"),
    "UNet, long list": ("unet/config.json", {"block_out_channels": [32] * 10**5}, (), "block_out_channels[] is 100000"),
    "VAE, nothing": ("vae/config.json", "{}", (), "cannot be loaded for drawing"),
    "VAE, wide": ("vae/config.json", {"block_out_channels": [4096] * 4}, (), "larger than its weights"),
    "VAE, another kind": ("model_index.json", {"vae": ["diffusers", "UNet2DConditionModel"]}, (), "vae is"),
    "scheduler, long": ("scheduler/scheduler_config.json", {"num_train_timesteps": 10**12}, (), "num_train_timesteps"),
    "scheduler, a network": ("model_index.json", {"scheduler": ["diffusers", "UNet2DConditionModel"]}, (), "scheduler"),
    "scheduler, nothing": ("model_index.json", {"scheduler": ["diffusers", "loaders"]}, (), "scheduler is 'loaders'"),
}


@pytest.mark.parametrize("case", PARTS)
def test_parts_that_draw(case: str, run: Run, built: list[int], picturebook: Path, tmp_path: Path) -> None:
    name, change, gone, sentence = PARTS[case]
    shutil.copytree(PICTUREBOOK / "config", tmp_path / "config")
    if isinstance(change, str):
        (tmp_path / "config" / name).write_text(change)
    else:
        written(tmp_path / "config" / name, change, *gone)
    given = ("--config", tmp_path / "config", "-o", tmp_path / "out", "--seeds", 1, "--steps", 1, "--no-cache")
    started = time.perf_counter()
    done = run("verify", small_manifest(tmp_path), picturebook, *given)
    assert done.code == 2 and done.err.count("\n") == 1 and sentence in done.err, done.err
    assert time.perf_counter() - started < SECONDS and max(built, default=0) < MOST and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "gone"),
    [
        ({}, ("text_config",)),
        ({}, ("vision_config",)),
        ({"text_config": None}, ()),
        ({"vision_config": {}}, ()),
        ({"text_config": {"num_hidden_layers": LAYERS}}, ()),
        ({"text_config_dict": {"num_hidden_layers": LAYERS}}, ()),
        ({"projection_dim": 10**9}, ()),
    ],
)
def test_judges(change: dict[str, Any], gone: tuple[str, ...], built: list[int], tmp_path: Path) -> None:
    shutil.copytree(PICTUREBOOK / "judge", tmp_path / "judge")
    load_judge(tmp_path / "judge", torch.device("cpu"))  # the control
    written(tmp_path / "judge" / "config.json", change, *gone)
    built.clear()
    with pytest.raises(CheckpointError, match=str(tmp_path / "judge")):
        load_judge(tmp_path / "judge", torch.device("cpu"))
    assert max(built, default=0) < MOST


LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (8 * 2**30, 8 * 2**30))
from timecli import cli
cli.main(sys.argv[1:])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits memory so")
@pytest.mark.parametrize("gone", [(), ("num_hidden_layers", "layer_types", "vocab_size", "intermediate_size")])
def test_with_little_memory_a_model_is_planned_and_one_of_a_large_config_is_refused(
    gone: tuple[str, ...], sound: Callable[[str], Path], manifest: Path, forked: list[str], tmp_path: Path
) -> None:
    shutil.copytree(sound("z-image"), tmp_path / "model")
    written(tmp_path / "model" / "text_encoder" / "config.json", {}, *gone)
    command = [*forked, "-c", LIMITED, "plan", str(manifest), str(tmp_path / "model"), "--no-cache"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60)
    if gone:
        assert done.returncode == 2 and "larger than its weights" in done.stderr, done.stderr
    else:
        assert done.returncode in (0, 1), done.stderr


@pytest.mark.parametrize("listed", [[], ["x"], [["a"], "b"], ["a", "b", "c"], {}, [None, 1], [[]], {"a": [None]}])
def test_a_list_of_parts_that_is_none(
    listed: Any, sound: Callable[[str], Path], run: Run, manifest: Path, picturebook: Path, tmp_path: Path
) -> None:
    config = small.config_only(sound("flux"), tmp_path / "model")
    shutil.copytree(PICTUREBOOK / "config", tmp_path / "config")
    for folder, model in ((config, sound("flux")), (tmp_path / "config", picturebook)):
        written(folder / "model_index.json", {"text_encoder": listed})
        done = run("plan", manifest, model, "--config", folder)
        assert done.code == 2 and "model_index.json: text_encoder is" in done.err, done.err
        assert done.err.count("\n") == 1 and "not a library and a class" in done.err


@pytest.mark.parametrize(
    ("value", "refused"),
    [(None, False), (1e30, False), (10**12, False), ("x", True), ("512", True), ([], True), (0, True), (True, True)],
)
def test_how_many_tokens_a_tokenizer_says_it_reads(
    value: Any, refused: bool, sound: Callable[[str], Path], run: Run, manifest: Path, picturebook: Path, tmp_path: Path
) -> None:
    """Some files of others have null there, and 1e30 where nobody knew."""
    shutil.copytree(sound("flux"), tmp_path / "model")
    for name in ("tokenizer", "tokenizer_2"):
        written(tmp_path / "model" / name / "tokenizer_config.json", {"model_max_length": value})
    done = run("plan", manifest, tmp_path / "model", "--no-cache")
    if refused:
        assert done.code == 2 and "model_max_length is" in done.err and done.err.count("\n") == 1, done.err
    else:
        assert done.code in (0, 1), done.err


@pytest.mark.parametrize("value", [None, "x", 10**12])
def test_clip_reads_as_many_tokens_as_it_has_positions(value: Any, run: Run, picturebook: Path, tmp_path: Path) -> None:
    shutil.copytree(PICTUREBOOK / "config", tmp_path / "config")
    written(tmp_path / "config" / "tokenizer" / "tokenizer_config.json", {"model_max_length": value})
    given = ("--config", tmp_path / "config", "-o", tmp_path / "out", "--seeds", 1, "--steps", 1, "--no-cache")
    done = run("verify", small_manifest(tmp_path), picturebook, *given)
    assert done.code == 0, done.err
