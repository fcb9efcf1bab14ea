"""What a text does not go through is neither demanded, nor read, nor part of a text encoder's fingerprint."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from timecli.errors import CheckpointError
from timecli.models.checkpoint import open_checkpoint
from timecli.models.encoders import TABLES
from timecli.text import encoding, fingerprints
from timecli.text.readers import TextEncoder

from . import small

CPU = torch.device("cpu")
PROMPT, OTHER = "A pack of blue roses", "A tall dog in the snow"
Tensors = dict[str, torch.Tensor]
WORDS = {"tekken_model": torch.ones(9).byte(), "spiece_model": torch.ones(9).byte()}
"""Tokenizers, as ComfyUI keeps them in the file of a text encoder."""


def without(*parts: str) -> Callable[[Tensors], Tensors]:
    return lambda state: {name: tensor for name, tensor in state.items() if not any(part in name for part in parts)}


def opened(family: str, folder: Path, change: Callable[[Tensors], Tensors], part: str = "text_encoder") -> TextEncoder:
    """A network in a single file, with its text encoders in files of their own, one of them changed."""
    model, given = folder.parent / "network.safetensors", []
    save_file(small.single(family, folder), model)
    for name, state in small.text_encoders(folder).items():
        given.append(folder.parent / f"{name}.safetensors")
        save_file(change(state) if name == part else state, given[-1])
    return encoding.read_text_encoder(open_checkpoint(model, folder, given), None, CPU)


@pytest.mark.parametrize(
    ("family", "gone"),
    [
        ("flux2", ("layers.30.", "model.norm.")),
        ("klein", ("layers.27.", "model.norm.")),
        ("z-image", ("layers.2.", "model.norm.")),
        ("chroma", ()),
        ("qwen-image", ()),
    ],
)
def test_layers_behind_the_text_and_a_tokenizer_in_the_file_do_not_count(
    family: str, gone: tuple[str, ...], tmp_path: Path
) -> None:
    """As ComfyUI keeps them: FLUX.2's reader with 30 of its 40 layers, since layers 10, 20 and 30 are read."""
    folder = small.saved(family, tmp_path / "model")
    whole = encoding.read_text_encoder(open_checkpoint(folder), None, CPU)
    found = opened(family, folder, lambda state: without(*gone)(state) | WORDS)
    assert torch.equal(found.embed([PROMPT])[0], whole.embed([PROMPT])[0])
    other = found.embed([OTHER])[0]
    assert not torch.equal(other, whole.embed([PROMPT])[0][: len(other)]), "the control"
    assert found.fingerprint == whole.fingerprint
    state = next(iter(small.text_encoders(folder).values()))
    last = max((int(name.split(".")[2]) for name in without(*gone)(state) if "model.layers." in name), default=0)
    needed = f"layers.{last}.mlp.up_proj." if gone else "layer_norm.weight" if family == "chroma" else "model.norm."
    with pytest.raises(CheckpointError, match="lacks"):
        opened(family, folder, without(*gone, needed))


@pytest.mark.parametrize(
    ("family", "name"), [("flux2", "layers.30."), ("klein", "layers.27."), ("z-image", "layers.2.")]
)
def test_a_number_that_no_state_depends_on_may_be_anything(family: str, name: str, tmp_path: Path) -> None:
    folder = small.saved(family, tmp_path / "model")
    before = encoding.read_text_encoder(open_checkpoint(folder), None, CPU)
    file = folder / "text_encoder" / "model.safetensors"
    state = load_file(file)
    for key in (key for key in state if name in key):
        state[key] = torch.full_like(state[key], torch.nan)
    save_file(state, file, {"format": "pt"})
    checkpoint = open_checkpoint(folder)
    after = encoding.read_text_encoder(checkpoint, None, CPU)
    assert torch.equal(after.embed([PROMPT])[0], before.embed([PROMPT])[0])
    assert after.fingerprint == before.fingerprint == fingerprints.of_model(checkpoint)[0]


@pytest.mark.parametrize("family", ["klein", "qwen-image"])
def test_a_part_that_no_state_depends_on_may_have_any_size(family: str, tmp_path: Path) -> None:
    """The head of a language model, with more words than its table has."""
    folder = small.saved(family, tmp_path / "model")
    before = encoding.read_text_encoder(open_checkpoint(folder), None, CPU)
    found = opened(family, folder, lambda state: {**state, "lm_head.weight": torch.ones(3, 16)})
    assert torch.equal(found.embed([PROMPT])[0], before.embed([PROMPT])[0])
    assert found.fingerprint == before.fingerprint
    with pytest.raises(CheckpointError, match="lacks"):
        opened(family, folder, lambda state: {**state, "model.layers.0.mlp.up_proj.weight": torch.ones(3, 16)})


@pytest.mark.parametrize("family", ["flux", "chroma", "flux2", "klein", "qwen-image", "z-image"])
def test_a_table_may_have_more_words_than_the_config(family: str, tmp_path: Path) -> None:
    """As after textual inversion: no prompt reads the rest."""
    folder = small.saved(family, tmp_path / "model")
    before = encoding.read_text_encoder(open_checkpoint(folder), None, CPU)

    def table(rows: int) -> Callable[[Tensors], Tensors]:
        def change(state: Tensors) -> Tensors:
            name = next(name for name in state if name.endswith(TABLES))
            more = torch.ones(max(rows, 0), state[name].shape[1])
            return {**state, name: torch.cat([state[name][: min(rows, 0) or None], more])}

        return change

    found = opened(family, folder, table(2))
    assert torch.equal(found.embed([PROMPT])[0], before.embed([PROMPT])[0])
    with pytest.raises(CheckpointError, match="lacks"):
        opened(family, folder, table(-2))


def test_clip_l_of_sd3_without_a_projection_has_the_identity(tmp_path: Path) -> None:
    """As diffusers and ComfyUI read `clip_l.safetensors`; in bigG the projection is the model's own."""
    folder = small.saved("sd3", tmp_path / "model")
    file = folder / "text_encoder" / "model.safetensors"
    state = load_file(file)
    own = encoding.read_text_encoder(open_checkpoint(folder), None, CPU)
    save_file({**state, "text_projection.weight": torch.eye(8)}, file, {"format": "pt"})
    wanted = encoding.read_text_encoder(open_checkpoint(folder), None, CPU)
    found = opened("sd3", folder, without("text_projection"))
    for one, other in zip(found.readers, wanted.readers, strict=True):
        assert torch.equal(one.embed([PROMPT])[0], other.embed([PROMPT])[0])
    assert found.fingerprint == wanted.fingerprint != own.fingerprint
    vector, control = found.readers[1].embed([PROMPT])[0], own.readers[1].embed([PROMPT])[0]
    assert not torch.allclose(vector, control), "the control"
    with pytest.raises(CheckpointError, match="lacks text_projection.weight"):
        opened("sd3", folder, without("text_projection"), part="text_encoder_2")
