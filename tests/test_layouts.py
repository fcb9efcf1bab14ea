"""The name table against diffusers itself, and the sentences of refusal."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from timecli import layouts
from timecli.errors import CheckpointError


def test_the_table_is_exactly_what_diffusers_has(picturebook_folder: Path) -> None:
    unet = load_file(picturebook_folder / "unet" / "diffusion_pytorch_model.safetensors")
    theirs = {name for name in unet if ".attn2.to_k." in name or ".attn2.to_v." in name}
    assert theirs == {matrix.names[layouts.DIFFUSERS] for matrix in layouts.SD1} and len(theirs) == 32


def test_both_spellings_name_the_same_weights(picturebook_fp32: Path, picturebook_folder: Path) -> None:
    """diffusers made the folder from the single file, by its own name map."""
    single = load_file(picturebook_fp32)
    unet = load_file(picturebook_folder / "unet" / "diffusion_pytorch_model.safetensors")
    for matrix in layouts.SD1:
        assert torch.equal(single[matrix.names[layouts.LDM]], unet[matrix.names[layouts.DIFFUSERS]]), matrix


def test_layers_are_numbered_from_the_input() -> None:
    assert [matrix.layer for matrix in layouts.SD1] == [layer for layer in range(16) for _ in "kv"]


def test_refusals_say_what_the_file_is() -> None:
    shapes = {matrix.names[layouts.LDM]: (32, 768) for matrix in layouts.SD1}
    assert layouts.matrices(shapes, layouts.LDM, "x") == layouts.SD1, "the control"
    missing = layouts.SD1[13].names[layouts.LDM]
    with pytest.raises(
        CheckpointError, match=rf"x has 31 of the 32 .*\({missing} is missing\); the file is incomplete"
    ):
        layouts.matrices({name: shape for name, shape in shapes.items() if name != missing}, layouts.LDM, "x")
    sdxl = {"conditioner.embedders.1.model.ln_final.weight": (1280,)}
    for foreign, kind in ((sdxl, "SDXL"), (dict.fromkeys(shapes, (32, 1024)), "SD 2")):
        with pytest.raises(CheckpointError, match=f"x is {kind}, which is not supported"):
            layouts.matrices(foreign, layouts.LDM, "x")
    with pytest.raises(CheckpointError, match="does not seem to be a Stable Diffusion 1.x model"):
        layouts.matrices({"some.weight": (1,)}, layouts.LDM, "x")
    with pytest.raises(CheckpointError, match="x has no text encoder"):
        layouts.text_prefix(shapes, layouts.LDM, "x")


def test_a_text_encoder_without_its_middle_name_is_found() -> None:
    assert (
        layouts.text_prefix(["cond_stage_model.transformer.embeddings.token_embedding.weight"], 0, "x")
        == "cond_stage_model.transformer."
    )
