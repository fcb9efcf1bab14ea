"""A folder's own pipeline decides whether an edit can be compiled for it, by diffusers' own `encode_prompt`."""

from __future__ import annotations

import json
import shutil
from inspect import signature
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
import transformers

from timecli.errors import CheckpointError
from timecli.models import classes
from timecli.models.checkpoint import open_checkpoint
from timecli.models.streams import TEXT
from timecli.text import encoding
from timecli.text.pipelines import PipelineEncoder
from timecli.text.sizes import require_stated

from . import small
from .conftest import ROSES, Run

CPU = torch.device("cpu")
PROMPT, OTHER = "A pack of blue roses", "A tall dog in the snow"
SMALL = {
    "StableDiffusion3Pipeline": "sd3", "FluxPipeline": "flux", "ChromaPipeline": "chroma",
    "Flux2KleinPipeline": "klein", "QwenImagePipeline": "qwen-image", "ZImagePipeline": "z-image",
}  # fmt: skip


def built(name: str, parts: dict[str, Any]) -> Any:
    """A pipeline of these parts alone; without its own start where that asks for more of its network."""
    kind = getattr(diffusers, name)
    taken = signature(kind.__init__).parameters
    lacking = [p for p, about in taken.items() if p not in ("self", *parts) and about.default is about.empty]
    switches = {"requires_safety_checker": False} if "requires_safety_checker" in taken else {}
    try:
        return kind(**dict.fromkeys(lacking), **parts, **switches)
    except AttributeError:
        pipeline = kind.__new__(kind)
        pipeline.register_modules(**{**dict.fromkeys(lacking), **parts})
        return pipeline


def renamed(folder: Path, name: str) -> Path:
    """The same folder with another class in its index."""
    index = folder / "model_index.json"
    index.write_text(json.dumps({**json.loads(index.read_text()), "_class_name": name}))
    return folder


@pytest.mark.parametrize("own", SMALL)
def test_diffusers_makes_the_same_text_in_every_class_of_the_table(own: str, tmp_path: Path) -> None:
    encoder = encoding.read_text_encoder(open_checkpoint(small.saved(SMALL[own], tmp_path)), None, CPU)
    assert isinstance(encoder, PipelineEncoder)
    parts = {name: part for name, part in encoder.pipeline.components.items() if part is not None}
    ours, length = encoder.encode([PROMPT])[0], signature(getattr(diffusers, own).__call__).parameters
    for name in classes.SAME_TEXT[own]:
        asked = signature(getattr(diffusers, name).__call__).parameters
        assert asked["max_sequence_length"].default == length["max_sequence_length"].default, name
        object.__setattr__(encoder, "pipeline", built(name, parts))
        theirs, other = encoder.encode([PROMPT])[0], encoder.encode([OTHER])[0]
        for stream, found in ours.items():
            assert torch.equal(found, theirs[stream]), (name, stream)
        rows = min(len(ours[TEXT]), len(other[TEXT]))
        assert not torch.allclose(ours[TEXT][:rows], other[TEXT][:rows]), "the control"


@pytest.mark.parametrize("own", ["StableDiffusionPipeline", "StableDiffusionXLPipeline"])
def test_classes_of_unets_read_their_text_encoders_alike(own: str) -> None:
    (one, words), (two, others) = small.clip(8, False), small.clip(12, True)
    parts = {"text_encoder": one, "tokenizer": words}
    parts |= {"text_encoder_2": two, "tokenizer_2": others} if "XL" in own else {}

    def text(name: str, prompt: str) -> torch.Tensor:
        pipeline = built(name, parts)
        encode = getattr(pipeline, "encode_prompt", None) or pipeline._encode_prompt
        options = {"device": CPU, "num_images_per_prompt": 1, "do_classifier_free_guidance": False}
        taken = signature(encode).parameters
        with torch.no_grad():
            found = encode(prompt=[prompt], **{key: value for key, value in options.items() if key in taken})
        return found if torch.is_tensor(found) else found[0]

    wanted = text(own, PROMPT)
    assert not torch.allclose(text(own, OTHER), wanted), "the control"
    for name in classes.SAME_TEXT[own]:
        assert torch.equal(text(name, PROMPT), wanted), name


@pytest.mark.parametrize(
    ("family", "name"),
    [
        ("qwen-image", "QwenImageEditPipeline"),
        ("qwen-image", "QwenImageEditPlusPipeline"),
        ("qwen-image", "QwenImageEditInpaintPipeline"),
        ("chroma", "ChromaInpaintPipeline"),
        ("klein", "FluxPipeline"),
        ("z-image", "ZImageOmniPipeline"),
        ("z-image", "SomebodysPipeline"),
    ],
)
def test_a_pipeline_with_another_text_is_refused_by_name_before_anything_is_built(
    family: str, name: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = renamed(small.saved(family, tmp_path / "model"), name)
    monkeypatch.setattr("timecli.text.encoding.read_text_encoder", lambda *_: pytest.fail("something was built"))
    done = run("plan", ROSES, folder)
    assert done.code == 2 and done.err.count("\n") == 1 and name in done.err, done.err
    assert run("inspect", folder).code == 0, "what it is can be said"
    renamed(folder, open_checkpoint(folder, needs="nothing").family.pipeline)
    open_checkpoint(folder)  # the control


def test_the_folder_of_a_unet_that_is_fed_pictures_is_refused(picturebook_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(picturebook_folder, tmp_path / "model"))
    with pytest.raises(CheckpointError, match="PaintByExamplePipeline, and the network is Stable Diffusion 1.x"):
        open_checkpoint(renamed(folder, "PaintByExamplePipeline"))
    assert open_checkpoint(renamed(folder, "StableDiffusionInpaintPipeline")).texts, "the control"


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    path = tmp_path / "m.toml"
    pair = '[[edit]]\nsource = "a rose"\ndestination = "a blue rose"\n'
    path.write_text(f'name = "blue"\n[preserve]\neveryday = false\n{pair}')
    return path


def test_klein_with_a_cache_is_klein(run: Run, manifest: Path, tmp_path: Path) -> None:
    folder = small.saved("klein", tmp_path / "model")
    assert run("edit", manifest, folder, "--delta", tmp_path / "one").code == 0
    for name in ("Flux2KleinKVPipeline", "Flux2KleinInpaintPipeline"):
        done = run("edit", manifest, renamed(folder, name), "--delta", tmp_path / "other", "--force")
        assert done.code == 0, done.err
        assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"model_type": "qwen3"}, "model_type is 'qwen3', and the text encoder of this kind of model is mistral3"),
        ({"vision_config": None}, "does not state vision_config"),
        ({"text_config": {"vocab_size": 9, "num_hidden_layers": 2}}, "does not state hidden_size"),
        ({"text_config": {"vocab_size": 9, "hidden_size": 2}}, "does not state num_hidden_layers"),
    ],
)
def test_nothing_is_built_whose_size_a_config_does_not_state(
    change: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    folder = small.saved("flux2", tmp_path / "model")
    config = folder / "text_encoder" / "config.json"
    about = json.loads(config.read_text())
    require_stated(config, transformers.Mistral3Config)  # the control
    config.write_text(json.dumps({**about, **change}))
    with pytest.raises(CheckpointError, match=sentence):
        encoding.read_text_encoder(open_checkpoint(folder), None, CPU)


def test_a_network_that_is_fed_a_picture_beside_the_text_is_edited_and_not_drawn(
    run: Run, manifest: Path, tmp_path: Path
) -> None:
    """FLUX.1 Fill: its text is that of FLUX.1, and it has no picture of text alone."""
    pipeline = small.flux()
    network = diffusers.FluxTransformer2DModel(
        in_channels=24, out_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=8,
        num_attention_heads=2, joint_attention_dim=16, pooled_projection_dim=12, axes_dims_rope=(2, 2, 4),
    )  # fmt: skip
    pipeline.register_modules(transformer=network)
    pipeline.save_pretrained(tmp_path / "model")
    folder = renamed(tmp_path / "model", "FluxFillPipeline")
    assert run("edit", manifest, folder, "--delta", tmp_path / "delta").code == 0
    done = run("verify", manifest, folder, "-o", tmp_path / "r", "--seeds", 1, "--steps", 1)
    assert done.code == 2 and "takes 24 channels, a picture among them" in done.err, done.err
