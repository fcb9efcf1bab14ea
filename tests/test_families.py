"""SD 2 and SDXL: text as diffusers encodes it, from folders and from single files, and edits of both.

The models are small and random; their topology, names and configs are the families' own.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    AutoencoderKL,
    EulerDiscreteScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from diffusers.loaders.single_file_utils import convert_open_clip_checkpoint
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from timecli.drawing import libraries
from timecli.models import layouts, openclip, streams
from timecli.models.checkpoint import open_checkpoint
from timecli.text import encoding
from timecli.text.tokenizers import clip_tokenizer

from .conftest import EXACT, Run

CPU = torch.device("cpu")
PROMPTS = ["A pack of blue roses", "a", "An image of a CEO, laughing"]
MANIFEST = 'name = "blue"\n[[edit]]\nsource = "A pack of roses"\ndestination = "A pack of blue roses"\n'


def text_config(layers: int, width: int, act: str) -> CLIPTextConfig:
    return CLIPTextConfig(
        hidden_size=width, intermediate_size=96, num_hidden_layers=layers, num_attention_heads=width // 64,
        projection_dim=width, hidden_act=act, bos_token_id=49406, eos_token_id=49407,
    )  # fmt: skip


def sized(model: torch.nn.Module) -> Any:
    """Initial weights are so small that wrong layers would go unnoticed; these are not."""
    random = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=random) * 0.2)
    return model.eval()


def small_vae() -> AutoencoderKL:
    return AutoencoderKL(block_out_channels=(8,), norm_num_groups=4, latent_channels=4)


def sdxl_pipeline() -> StableDiffusionXLPipeline:
    """A small SDXL with all 70 layers."""
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=8, layers_per_block=2, block_out_channels=(16, 32, 32), norm_num_groups=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=[1, 2, 10], attention_head_dim=[2, 4, 4], cross_attention_dim=192,
        use_linear_projection=True, addition_embed_type="text_time", addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + 128,
    )  # fmt: skip
    return StableDiffusionXLPipeline(
        vae=small_vae(),
        text_encoder=sized(CLIPTextModel(text_config(3, 64, "quick_gelu"))),
        text_encoder_2=sized(CLIPTextModelWithProjection(text_config(3, 128, "gelu"))),
        tokenizer=libraries.tokenizer(clip_tokenizer()),
        tokenizer_2=libraries.tokenizer(clip_tokenizer(0)),
        unet=unet,
        scheduler=EulerDiscreteScheduler(steps_offset=1),
    )


@pytest.fixture(scope="module")
def sdxl(tmp_path_factory: pytest.TempPathFactory) -> tuple[StableDiffusionXLPipeline, Path]:
    """A small SDXL, and its folder."""
    pipeline, folder = sdxl_pipeline(), tmp_path_factory.mktemp("sdxl") / "model"
    pipeline.save_pretrained(folder)
    return pipeline, folder


def plain(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Tensors of a text encoder below `text_model.`, whatever the release of transformers."""
    state = {name.removeprefix("text_model."): tensor for name, tensor in model.state_dict().items()}
    return {
        name: tensor
        for name, tensor in state.items()
        if name.split(".")[0] in ("embeddings", "encoder", "final_layer_norm", "text_projection")
    }


def to_openclip(weights: dict[str, torch.Tensor], extra_layer: bool) -> dict[str, torch.Tensor]:
    """What OpenCLIP would have saved: fused projections, and for SD 2 a last block that nobody uses."""
    back = {new: old for old, new in openclip.OUTSIDE.items()}
    inside = {new: old for old, new in openclip.INSIDE.items()}
    result: dict[str, torch.Tensor] = {}
    for name, tensor in weights.items():
        if name in back:
            result[back[name]] = tensor
        elif name.startswith("encoder.layers.") and "self_attn.q_proj" in name:
            stacked = torch.cat([weights[name.replace("q_proj", f"{q}_proj")] for q in "qkv"])
            result[f"{openclip.BLOCK}{name.split('.')[2]}.attn.in_proj_{name.split('.')[-1]}"] = stacked
        elif name.startswith("encoder.layers.") and ".k_proj" not in name and ".v_proj" not in name:
            number, part = name.removeprefix("encoder.layers.").split(".", 1)
            module, kind = part.rsplit(".", 1)
            result[f"{openclip.BLOCK}{number}.{inside[module]}.{kind}"] = tensor
    if extra_layer:
        last = max(int(name.split(".")[2]) for name in result if name.startswith(openclip.BLOCK))
        block = {name: tensor for name, tensor in result.items() if name.startswith(f"{openclip.BLOCK}{last}.")}
        result |= {name.replace(f".{last}.", f".{last + 1}."): tensor + 1 for name, tensor in block.items()}
    projection = weights.get(openclip.HF_PROJECTION, torch.eye(len(result["ln_final.weight"])))
    return result | {openclip.PROJECTION: projection.T.contiguous(), "logit_scale": torch.tensor(1.0)}


def single_file(
    unet: UNet2DConditionModel, family: streams.Family, texts: dict[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    state = unet.state_dict()
    return texts | {
        f"model.diffusion_model.{matrix.names[streams.LDM]}": state[matrix.names[streams.DIFFUSERS]]
        for matrix in family.matrices
    }


def prefixed(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {prefix + name: tensor.contiguous() for name, tensor in tensors.items()}


def named(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A text encoder's tensors as transformers saves them."""
    inner = {name: tensor for name, tensor in weights.items() if name != openclip.HF_PROJECTION}
    outer = {name: tensor for name, tensor in weights.items() if name == openclip.HF_PROJECTION}
    return prefixed("text_model.", inner) | prefixed("", outer)


@pytest.fixture(scope="module")
def sdxl_file(sdxl: tuple[StableDiffusionXLPipeline, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    pipeline, _ = sdxl
    texts = prefixed("conditioner.embedders.0.transformer.text_model.", plain(pipeline.text_encoder))
    texts |= prefixed("conditioner.embedders.1.model.", to_openclip(plain(pipeline.text_encoder_2), False))
    path = tmp_path_factory.mktemp("sdxl-file") / "sdxl.safetensors"
    save_file(single_file(pipeline.unet, layouts.SDXL, texts), path, {"format": "pt"})
    return path


@pytest.mark.parametrize("before", ["model.diffusion_model.", "diffusion_model.", "model."])
def test_sdxl_is_found_without_the_middle_name_of_its_text_encoder(
    before: str, run: Run, sdxl_file: Path, tmp_path: Path
) -> None:
    """As a saver with transformers 5.6 and later names CLIP ViT-L, and behind other names of the network."""
    (tmp_path / "m.toml").write_text(MANIFEST)
    state = {
        name.replace(".transformer.text_model.", ".transformer.").replace("model.diffusion_model.", before): tensor
        for name, tensor in load_file(sdxl_file).items()
    }
    save_file(state, tmp_path / "flat.safetensors")
    for model, out in ((sdxl_file, "a"), (tmp_path / "flat.safetensors", "b")):
        done = run("edit", tmp_path / "m.toml", model, "-o", tmp_path / out)
        assert done.code == 0, done.err
    one, other = (load_file(tmp_path / name) for name in "ab")
    for matrix in layouts.SDXL.matrices:
        name = matrix.names[streams.LDM]
        assert torch.equal(one[f"model.diffusion_model.{name}"], other[before + name]), name


@pytest.mark.parametrize("form", ["folder", "file"])
def test_sdxl_text_is_diffusers_own(form: str, sdxl: tuple[StableDiffusionXLPipeline, Path], sdxl_file: Path) -> None:
    pipeline, folder = sdxl
    encoder = encoding.read_text_encoder(open_checkpoint(folder if form == "folder" else sdxl_file), None, CPU)
    with torch.no_grad():
        expected = pipeline.encode_prompt(PROMPTS, do_classifier_free_guidance=False)[0].double()
    found = torch.stack(list(encoder.embed(PROMPTS)))
    assert found.shape == (3, 77, 192) and (found - expected).norm() / expected.norm() < 1e-5
    assert (found[:, :, 64:].flip(0) - expected[:, :, 64:]).norm() / expected.norm() > 1e-2, "the control"


def test_sdxl_is_edited_in_both_forms(
    run: Run, sdxl: tuple[StableDiffusionXLPipeline, Path], sdxl_file: Path, tmp_path: Path
) -> None:
    (tmp_path / "m.toml").write_text(MANIFEST)
    (tmp_path / "config").mkdir()
    for model, output in ((sdxl[1], tmp_path / "folder"), (sdxl_file, tmp_path / "file")):
        done = run("edit", tmp_path / "m.toml", model, "-o", output, "--json")
        assert done.code == 0, done.err
        assert len(json.loads(done.out)["changed"]) == 141
    folder, file = (
        load_file(tmp_path / "folder" / "unet" / "diffusion_pytorch_model.safetensors"),
        load_file(tmp_path / "file"),
    )
    for matrix in layouts.SDXL.matrices:
        one, other = folder[matrix.names[streams.DIFFUSERS]], file[f"model.diffusion_model.{matrix.names[streams.LDM]}"]
        assert torch.equal(one, other)
    about = json.loads(run("inspect", tmp_path / "file", "--json").out)
    assert (about["architecture"], about["cross_attention_matrices"]) == ("Stable Diffusion XL", 140)
    assert StableDiffusionXLPipeline.from_pretrained(tmp_path / "folder", local_files_only=True).unet is not None


def test_sdxl_renders(run: Run, sdxl: tuple[StableDiffusionXLPipeline, Path], tmp_path: Path) -> None:
    (tmp_path / "m.toml").write_text(MANIFEST)
    done = run("verify", tmp_path / "m.toml", sdxl[1], "-o", tmp_path / "report", "--seeds", "1", "--steps", "1")
    assert done.code == 0, done.err
    assert (tmp_path / "report" / "sheet.png").exists()


def sd_pipeline(text: CLIPTextModel, padding: int | None) -> StableDiffusionPipeline:
    """A small SD 1 or SD 2, by its text encoder."""
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=8, block_out_channels=(16, 16, 16, 16), norm_num_groups=8, cross_attention_dim=64,
        attention_head_dim=[2, 2, 2, 2], use_linear_projection=True,
    )  # fmt: skip
    return StableDiffusionPipeline(
        vae=small_vae(),
        text_encoder=sized(text),
        tokenizer=libraries.tokenizer(clip_tokenizer(padding)),
        unet=unet,
        scheduler=EulerDiscreteScheduler(steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def sd1_pipeline() -> StableDiffusionPipeline:
    """A small SD 1."""
    return sd_pipeline(CLIPTextModel(text_config(3, 64, "quick_gelu")), None)


def sd2_pipeline() -> StableDiffusionPipeline:
    """A small SD 2: a text encoder with the 23 blocks that SD 2 reads, padding id 0."""
    return sd_pipeline(CLIPTextModel(text_config(23, 64, "gelu")), 0)


@pytest.fixture(scope="module")
def sd2(tmp_path_factory: pytest.TempPathFactory) -> tuple[StableDiffusionPipeline, Path]:
    """A small SD 2, and its folder."""
    pipeline, folder = sd2_pipeline(), tmp_path_factory.mktemp("sd2") / "model"
    pipeline.save_pretrained(folder)
    return pipeline, folder


@pytest.mark.parametrize("surplus", [True, False], ids=["24 blocks", "23 blocks"])
@pytest.mark.parametrize("prefix", layouts.SD2.towers[0].prefixes)
def test_sd2_text_is_diffusers_own(
    prefix: str, surplus: bool, sd2: tuple[StableDiffusionPipeline, Path], tmp_path: Path
) -> None:
    """OpenCLIP's file has a 24th block that SD 2 does not read; one that was converted back from diffusers has not."""
    pipeline, folder = sd2
    texts = prefixed(prefix, to_openclip(plain(pipeline.text_encoder), surplus))
    assert (f"{prefix}transformer.resblocks.23.ln_1.weight" in texts) == surplus
    save_file(single_file(pipeline.unet, layouts.SD2, texts), tmp_path / "sd2.safetensors")
    with torch.no_grad():
        expected = pipeline.encode_prompt(PROMPTS, CPU, 1, False)[0].double()
    fingerprints = set()
    for path in (folder, tmp_path / "sd2.safetensors"):
        encoder = encoding.read_text_encoder(open_checkpoint(path), None, CPU)
        assert (torch.stack(list(encoder.embed(PROMPTS))) - expected).norm() / expected.norm() < 1e-5
        fingerprints.add(encoder.fingerprint)
    assert len(fingerprints) == 1, "one delta fits both forms"


def test_openclip_names_become_what_diffusers_makes_of_them() -> None:
    model = sized(CLIPTextModel(text_config(2, 64, "gelu")))
    weights = to_openclip(plain(model), False)
    del weights[openclip.PROJECTION]  # CLIPTextModel has none
    theirs = convert_open_clip_checkpoint(
        model, prefixed("cond_stage_model.model.", weights), prefix="cond_stage_model.model."
    )
    ours = openclip.to_transformers(weights, None)
    for name, tensor in ours.items():
        found = theirs.get(f"text_model.{name}", theirs.get(name))
        assert found is not None and torch.equal(found, tensor), name


@pytest.mark.parametrize("form", ["lora", "peft"])
@pytest.mark.parametrize("family", ["sd2", "sdxl"])
def test_diffusers_fuses_an_exported_adapter_to_the_edited_weights(
    family: str, form: str, run: Run, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    _, folder = request.getfixturevalue(family)
    (tmp_path / "m.toml").write_text(MANIFEST)
    assert run("edit", tmp_path / "m.toml", folder, "-o", tmp_path / "out", "--delta", tmp_path / "d").code == 0
    done = run("export", tmp_path / "d", folder, "--format", form, *EXACT, "-o", tmp_path / "lora.safetensors")
    assert done.code == 0, done.err
    kind = StableDiffusionXLPipeline if family == "sdxl" else StableDiffusionPipeline
    pipeline = kind.from_pretrained(folder, local_files_only=True)
    pipeline.load_lora_weights(str(tmp_path), weight_name="lora.safetensors")
    pipeline.fuse_lora()
    pipeline.unload_lora_weights()
    before = load_file(folder / "unet" / "diffusion_pytorch_model.safetensors")
    after = load_file(tmp_path / "out" / "unet" / "diffusion_pytorch_model.safetensors")
    matrices = (layouts.SDXL if family == "sdxl" else layouts.SD2).matrices
    for name in (matrix.names[streams.DIFFUSERS] for matrix in matrices):
        found = pipeline.unet.get_parameter(name)
        assert (found - after[name]).norm() < 1e-4 * (after[name] - before[name]).norm(), name
