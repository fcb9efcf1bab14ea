"""The name table against diffusers itself, and the sentences of refusal."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from timecli.errors import CheckpointError
from timecli.models import layouts, others, streams

from .conftest import ldm


def test_the_table_is_exactly_what_diffusers_has(picturebook_folder: Path) -> None:
    unet = load_file(picturebook_folder / "unet" / "diffusion_pytorch_model.safetensors")
    theirs = {name for name in unet if ".attn2.to_k." in name or ".attn2.to_v." in name}
    assert theirs == {matrix.names[streams.DIFFUSERS] for matrix in layouts.SD1.matrices} and len(theirs) == 32


def test_both_spellings_name_the_same_weights(picturebook_fp32: Path, picturebook_folder: Path) -> None:
    """diffusers made the folder from the single file, by its own name map."""
    single = load_file(picturebook_fp32)
    unet = load_file(picturebook_folder / "unet" / "diffusion_pytorch_model.safetensors")
    for matrix in layouts.SD1.matrices:
        assert torch.equal(single[ldm(matrix)], unet[matrix.names[streams.DIFFUSERS]]), matrix


def test_layers_are_numbered_from_the_input() -> None:
    assert [matrix.layer for matrix in layouts.SD1.matrices] == [layer for layer in range(16) for _ in "kv"]


def test_sdxl_has_70_layers() -> None:
    layers = [matrix for matrix in layouts.SDXL.matrices if matrix.kind != streams.ENTRY]
    assert len(layers) == 140 and layers[-1].layer == 69


def shapes_of(family: streams.Family, prefix: str, spelling: int, width: int) -> dict[str, tuple[int, ...]]:
    return {prefix + matrix.names[spelling]: (32, width) for matrix in family.matrices}


@pytest.mark.parametrize(("prefix", "spelling"), layouts.UNET_PREFIXES)
@pytest.mark.parametrize(("family", "width"), [(layouts.SD1, 768), (layouts.SD2, 1024), (layouts.SDXL, 2048)])
def test_a_unet_is_known_by_names_and_shapes(prefix: str, spelling: int, family: streams.Family, width: int) -> None:
    assert layouts.find(shapes_of(family, prefix, spelling, width), "x") == (family, prefix, spelling)


@pytest.mark.parametrize("prefix", ["net.", "module.", "_orig_mod.", "model.diffusion_model."])
@pytest.mark.parametrize("spelling", [streams.LDM, streams.DIFFUSERS])
@pytest.mark.parametrize("family", [layouts.SD1, layouts.SDXL, layouts.SD3, layouts.FLUX1, layouts.Z_IMAGE])
def test_a_whole_network_is_found_behind_any_name(family: streams.Family, spelling: int, prefix: str) -> None:
    shapes = shapes_of(family, prefix, spelling, 768)
    shapes |= {prefix + mark: (8, 8) for mark in family.marks[spelling : spelling + 1]}
    found = layouts.find(shapes, "x")
    assert found[:2] == (family, prefix) and found[0].matrices[0].names[found[2]] == family.matrices[0].names[spelling]
    inside = {"cond_stage_model.transformer.text_model.embeddings.token_embedding.weight": (8, 8)}
    with pytest.raises(CheckpointError, match="maps that read text|no map that reads text"):
        layouts.find({name: shapes[name] for name in [*shapes][1:]} | inside, "x")


@pytest.mark.parametrize("prefix", layouts.SD2.towers[0].prefixes)
def test_of_any_width_a_unet_beside_an_openclip_is_sd_2(prefix: str) -> None:
    shapes = shapes_of(layouts.SD1, "model.diffusion_model.", streams.LDM, 64)
    assert layouts.find({**shapes, f"{prefix}token_embedding.weight": (49408, 64)}, "x")[0] is layouts.SD2
    clip = f"{layouts.SD1.towers[0].prefixes[0]}embeddings.token_embedding.weight"
    assert layouts.find({**shapes, clip: (49408, 64)}, "x")[0] is layouts.SD1, "the control"


def test_refusals_say_what_the_file_is() -> None:
    shapes = shapes_of(layouts.SD1, "model.diffusion_model.", streams.LDM, 768)
    assert layouts.find(shapes, "x")[0] is layouts.SD1, "the control"
    missing = ldm(layouts.SD1.matrices[13])
    with pytest.raises(
        CheckpointError, match=rf"x has 31 of the 32 .*\({missing} is missing\); the file is incomplete"
    ):
        layouts.find({name: shape for name, shape in shapes.items() if name != missing}, "x")
    for mark, kind in ((mark, kind) for kind, marks in others.FOREIGN.items() for mark in marks):
        with pytest.raises(CheckpointError, match=f"x is {kind}, which has no edit"):
            layouts.find({**shapes, f"prefix{mark}": (8, 8)}, "x")
    with pytest.raises(CheckpointError, match="x has no map that reads text"):
        layouts.find({"some.weight": (1,)}, "x")
    with pytest.raises(CheckpointError, match="x has no map that reads text"):
        layouts.find(dict.fromkeys(shapes, (32, 768, 1, 1)), "x")
    assert layouts.tower_prefix(shapes, layouts.SD1.towers[0]) is None


def test_a_text_encoder_without_its_middle_name_is_found() -> None:
    names = ["cond_stage_model.transformer.embeddings.token_embedding.weight"]
    assert layouts.tower_prefix(names, layouts.SD1.towers[0]) == "cond_stage_model.transformer."
