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


def test_refusals_say_what_the_file_seems_to_be() -> None:
    names = [matrix.names[layouts.LDM] for matrix in layouts.SD1]
    with pytest.raises(
        CheckpointError, match=r"x has 31 of the 32 .*\(model.diffusion_model.middle_block.1.*incomplete"
    ):
        layouts.matrices(
            [name for name in names if "middle_block.1.transformer_blocks.0.attn2.to_v" not in name], 0, "x"
        )
    with pytest.raises(CheckpointError, match="an SDXL checkpoint"):
        layouts.matrices(["conditioner.embedders.1.model.ln_final.weight"], 0, "x")
    with pytest.raises(CheckpointError, match="does not seem to be a Stable Diffusion 1.x model"):
        layouts.matrices(["some.weight"], 0, "x")
    with pytest.raises(CheckpointError, match="x has no text encoder"):
        layouts.text_prefix(names, 0, "x")


def test_a_text_encoder_without_its_middle_name_is_found() -> None:
    assert (
        layouts.text_prefix(["cond_stage_model.transformer.embeddings.token_embedding.weight"], 0, "x")
        == "cond_stage_model.transformer."
    )
