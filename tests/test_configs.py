"""Configs and tokenizers beside a model: what is impossible in them is a sentence, and nothing is built of it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import CLIPTextConfig

from timecli.drawing.judge import load_judge
from timecli.drawing.render import Settings, load_pipeline, render
from timecli.errors import CheckpointError
from timecli.models import layouts
from timecli.models.checkpoint import Checkpoint, open_checkpoint
from timecli.text import sizes
from timecli.text.encoding import ClipEncoder, load
from timecli.text.readers import TextEncoder
from timecli.text.tokenizers import clip_tokenizer, words

from .conftest import PICTUREBOOK, ROSES, Run

WRONG: list[Any] = [None, -1, 10**9, "x", []]
TEXT, TOKENIZER = "text_encoder/config.json", "tokenizer/tokenizer_config.json"
EPSILONS: list[dict[str, Any]] = [{"layer_norm_eps": value} for value in ("x", 1, 1.0, 0.0, -1e-5)]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    shutil.copytree(PICTUREBOOK / "config", tmp_path / "config")
    return tmp_path / "config"


def changed(config: Path, name: str, **values: Any) -> None:
    table = json.loads((PICTUREBOOK / "config" / name).read_text())
    (config / name).write_text(json.dumps({**table, **values}))


@pytest.fixture(scope="module")
def opened(picturebook: Path) -> Checkpoint:
    return open_checkpoint(picturebook, PICTUREBOOK / "config")


@pytest.fixture(scope="module")
def weights(opened: Checkpoint) -> dict[str, torch.Tensor]:
    return opened.text_encoders()[0]


def read(weights: dict[str, torch.Tensor], config: Path) -> TextEncoder:
    tower = load(weights, layouts.SD1.towers[0], config / "tokenizer", config / TEXT, torch.device("cpu"), "model")
    return ClipEncoder((tower,), fingerprints=("",))


def refused(weights: dict[str, torch.Tensor], config: Path) -> str:
    with pytest.raises(CheckpointError) as refusal:
        read(weights, config)
    sentence = str(refusal.value)
    assert "\n" not in sentence and sentence.endswith(".") and len(sentence) < 1000
    return sentence


def test_a_text_encoders_config_fits_its_weights(weights: dict[str, torch.Tensor], config: Path) -> None:
    keys = ("hidden_size", "vocab_size", "max_position_embeddings", "intermediate_size", "num_hidden_layers")
    for key in (*keys, "num_attention_heads"):
        for value in WRONG:
            changed(config, TEXT, **{key: value})
            assert f"{TEXT}: {key} is " in refused(weights, config)
    for values in ({"hidden_act": "x"}, {"hidden_act": 5}, {"num_attention_heads": 5}, *EPSILONS):
        changed(config, TEXT, **values)
        assert str(config) in refused(weights, config)
    for text, sentence in (
        ("{", "is not valid JSON"),
        ("[]", "not a config"),
        ("NaN", "is not valid JSON"),
        ("[" * 9999, "nested too deeply"),
        ('{"hidden_size": 1' + "0" * 5000 + "}", "a number of 5001 digits"),
    ):
        (config / TEXT).write_text(text)
        assert sentence in refused(weights, config)
    changed(config, TEXT, num_hidden_layers=4, attention_dropout=0.5)
    assert read(weights, config).width == 192, "the control"


def test_a_key_that_a_config_leaves_out_means_what_transformers_means() -> None:
    theirs = CLIPTextConfig()
    assert {key: getattr(theirs, key) for key in sizes.DEFAULTS} == sizes.DEFAULTS


def test_a_tokenizer_has_clips_special_tokens(weights: dict[str, torch.Tensor], config: Path) -> None:
    for key in ("bos_token", "eos_token", "pad_token"):
        for value in (None, 5, [], {}):
            changed(config, TOKENIZER, **{key: value})
            assert "tokenizer" in refused(weights, config)
    changed(config, TOKENIZER)
    whole = json.loads((config / "tokenizer" / "tokenizer.json").read_text())
    for key in whole:
        (config / "tokenizer" / "tokenizer.json").write_text(json.dumps({**whole, key: 5}))
        assert "cannot be read as a tokenizer" in refused(weights, config)
    for text in ("{", "[" * 9999, "\x1b"):
        (config / "tokenizer" / "tokenizer.json").write_text(text)
        assert "cannot be read as a tokenizer" in refused(weights, config)
    (config / "tokenizer" / "tokenizer.json").unlink()
    vocabulary = json.loads((config / "tokenizer" / "vocab.json").read_text())
    plain = {token: number for token, number in vocabulary.items() if "|" not in token}
    (config / "tokenizer" / "vocab.json").write_text(json.dumps(plain))
    assert "is none of its tokens" in refused(weights, config)
    (config / "tokenizer" / "vocab.json").write_text(json.dumps({**vocabulary, "more</w>": len(vocabulary)}))
    assert "which lacks some" in refused(weights, config)
    (config / "tokenizer" / "vocab.json").write_text(json.dumps({**vocabulary, "a</w>": 5000}))
    assert "without CLIP's start, end and padding tokens" in refused(weights, config)
    (config / "tokenizer" / "vocab.json").write_text(json.dumps(vocabulary))
    assert read(weights, config).width == 192, "the control"


DRAWN = {
    "unet/config.json": (
        {"sample_size": 10**9},
        {"sample_size": None},
        {"layers_per_block": 10**6},
        {"in_channels": "x"},
    ),
    "vae/config.json": ({"block_out_channels": [10**7]}, {"latent_channels": -1}, {"scaling_factor": "x"}),
    "scheduler/scheduler_config.json": (
        {"num_train_timesteps": 10**12},
        {"beta_schedule": "x"},
        {"prediction_type": 5},
    ),
}


@pytest.mark.parametrize("name", DRAWN)
def test_a_pipelines_configs_describe_what_can_be_drawn(
    name: str, opened: Checkpoint, weights: dict[str, torch.Tensor], config: Path
) -> None:
    checkpoint, encoder = replace(opened, config=config), read(weights, config)

    def draw() -> int:
        pipeline = load_pipeline(checkpoint, encoder, torch.device("cpu"))
        return len(render(pipeline, ["a"], Settings((0,), 1), lambda _: None)["a"])

    for values in DRAWN[name]:
        changed(config, name, **values)
        with pytest.raises(CheckpointError) as refusal:
            draw()
        assert "\n" not in str(refusal.value) and str(refusal.value).endswith(".")
    for text in ("{", "[]", "[" * 9999):
        (config / name).write_text(text)
        with pytest.raises(CheckpointError, match=name):
            draw()
    changed(config, name)
    assert draw() == 1, "the control"


def test_commands_say_it_in_one_sentence(run: Run, picturebook: Path, config: Path, tmp_path: Path) -> None:
    changed(config, "unet/config.json", layers_per_block=10**6)
    changed(config, TEXT, hidden_size=-1)
    done = run("edit", ROSES, picturebook, "--config", config, "-o", tmp_path / "out.safetensors")
    assert done.code == 2 and f"{TEXT}: hidden_size is -1 and the text encoder of" in done.err, done.err
    assert (
        done.err.startswith("timecli: ") and done.err.count("\n") == 1 and not (tmp_path / "out.safetensors").exists()
    )
    changed(config, TEXT)
    done = run("verify", ROSES, picturebook, "--config", config, "-o", tmp_path / "report")
    assert done.code == 2 and "unet/config.json: layers_per_block is 1000000, more than the 12" in done.err, done.err
    assert done.err.startswith("timecli: ") and done.err.count("\n") == 1 and not (tmp_path / "report").exists()


LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"


def test_a_pointer_in_place_of_any_config_is_named(
    weights: dict[str, torch.Tensor], config: Path, tmp_path: Path
) -> None:
    shutil.copytree(PICTUREBOOK / "judge", tmp_path / "judge")
    places = [config / name for name in (TEXT, TOKENIZER, "tokenizer/tokenizer.json", "tokenizer/vocab.json")]
    places += [path for path in (tmp_path / "judge").iterdir() if path.name != "model.safetensors"]
    assert len(places) > 8
    for path in places:
        sound = path.read_text()
        path.write_text(LFS)
        with pytest.raises(CheckpointError, match=f"{path.name} is a Git LFS pointer.*git lfs pull"):
            read(weights, config)
            load_judge(tmp_path / "judge", torch.device("cpu"))
        path.write_text(sound)
    read(weights, config)  # the control
    load_judge(tmp_path / "judge", torch.device("cpu"))


def test_a_judge_that_cannot_be_built_or_cannot_judge(tmp_path: Path) -> None:
    shutil.copytree(PICTUREBOOK / "judge", tmp_path / "judge")

    def sentence(name: str, content: str) -> str:
        sound = (tmp_path / "judge" / name).read_text()
        (tmp_path / "judge" / name).write_text(content)
        with pytest.raises(CheckpointError) as refusal:
            load_judge(tmp_path / "judge", torch.device("cpu"))
        (tmp_path / "judge" / name).write_text(sound)
        assert "\n" not in str(refusal.value) and str(tmp_path / "judge") in str(refusal.value)
        return str(refusal.value)

    config = json.loads((tmp_path / "judge" / "config.json").read_text())
    for tower, key, value in (
        ("text_config", "hidden_size", 10**9),
        ("text_config", "num_hidden_layers", 10**9),
        ("vision_config", "patch_size", 0),
        ("vision_config", "intermediate_size", "x"),
        ("vision_config", "num_attention_heads", 5),
    ):
        sentence("config.json", json.dumps({**config, tower: {**config[tower], key: value}}))
    fewer = {**config, "text_config": {**config["text_config"], "num_hidden_layers": 0}}
    assert "which its weights have" in sentence("config.json", json.dumps(fewer))
    picture = json.loads((tmp_path / "judge" / "preprocessor_config.json").read_text())
    for values in ({"size": {"shortest_edge": 10**7}}, {"crop_size": {"height": 0, "width": 64}}, {"image_std": None}):
        sentence("preprocessor_config.json", json.dumps({**picture, **values}))
    for name in ("config.json", "preprocessor_config.json", "tokenizer_config.json", "tokenizer.json"):
        sentence(name, "{")
    load_judge(tmp_path / "judge", torch.device("cpu"))  # the control


def test_tokens_are_shown_as_text() -> None:
    reader = clip_tokenizer()

    def shown(prompt: str) -> list[str]:
        return words(reader.tokens(reader.ids(prompt)))[1:-1]

    assert shown("A pack of roses") == ["a", "pack", "of", "roses"], "the control"
    assert shown("caf\u00e9 \U0001f339") == ["caf\u00e9", "\U0001f339"]
    assert shown("\u65e5\u672c") == ["\u65e5", "\u672c (byte 1-2 of 3)", "\u672c (byte 3 of 3)"]
    assert words(["\u00c3</w>", "<|endoftext|>"]) == ["\\xc3", "<|endoftext|>"], "half a letter alone is a byte"


def test_plan_shows_letters(run: Run, picturebook: Path, tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text(
        'name = "x"\n[[edit]]\nsource = "a caf\u00e9"\ndestination = "a blue caf\u00e9"\n', encoding="utf-8"
    )
    out = run("plan", tmp_path / "x.toml", picturebook, "--pairs").out
    assert "\u00e9 (byte 1 of 2)" in out and "\u00c3" not in out
