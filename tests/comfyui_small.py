"""Small random models of ComfyUI's own classes: network, sampling and text encoders of every family that it draws.

For processes beside a checkout of ComfyUI, which take this module before any of ComfyUI's: it reads the process's
arguments in ComfyUI's place, and loads the node's folder as ComfyUI does, as the package `timecli_nodes`.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

ARGUMENTS, sys.argv[1:] = sys.argv[1:], ["--cpu"]

import comfy.options  # noqa: E402

comfy.options.enable_args_parsing()

import comfy.model_patcher  # noqa: E402
import comfy.sample  # noqa: E402
import comfy.sd  # noqa: E402
import comfy.supported_models as models  # noqa: E402
import comfy.text_encoders.qwen_image as qwen_image  # noqa: E402
import comfy.text_encoders.qwen_vl as qwen_vl  # noqa: E402
import comfy.utils  # noqa: E402
import tekken  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402
from comfy.ldm.chroma.model import ChromaParams  # noqa: E402
from comfy.ldm.flux.model import FluxParams  # noqa: E402

LATER = {"FLUX.2 dev": "Flux2", "Z-Image": "ZImage"}
"""Families that older versions do not draw, with ComfyUI's names."""
if set(ARGUMENTS) & {family for family, name in LATER.items() if not hasattr(models, name)}:
    print(json.dumps({"skip": f"this version of ComfyUI does not draw {ARGUMENTS[0]}"}))
    sys.exit()
NODE = Path(__file__).parent.parent / "integrations" / "comfyui"
CPU = torch.device("cpu")
FEW = "a dog\na dog in the snow\na tall tree\na red house\na barn\nthree cats\n"
"""Everyday prompts."""
CLIP = {"hidden_size": 24, "intermediate_size": 32, "num_attention_heads": 2, "num_hidden_layers": 3}
T5 = {"d_model": 24, "d_ff": 32, "d_kv": 8, "num_heads": 2, "num_layers": 2}
UNET: dict[str, Any] = {
    "image_size": 32, "in_channels": 4, "out_channels": 4, "model_channels": 32, "num_res_blocks": [2, 2, 2, 2],
    "channel_mult": [1, 2, 2, 2], "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
    "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0], "transformer_depth_middle": 1,
    "context_dim": 24, "use_spatial_transformer": True, "use_linear_in_transformer": False, "adm_in_channels": None,
    "use_temporal_attention": False, "legacy": False,
}  # fmt: skip
HEADS = {"num_heads": 2, "num_head_channels": -1}
SDXL = {
    **UNET, "num_res_blocks": [2, 2, 2], "channel_mult": [1, 2, 2], "transformer_depth": [0, 0, 2, 2, 10, 10],
    "transformer_depth_output": [0, 0, 0, 2, 2, 2, 10, 10, 10], "transformer_depth_middle": 10, "context_dim": 48,
    "use_linear_in_transformer": True, "adm_in_channels": 24 + 1536, "num_classes": "sequential", **HEADS,
}  # fmt: skip


def known(kind: Any, sizes: dict[str, Any]) -> dict[str, Any]:
    """Of some sizes those that a network takes: later versions of ComfyUI ask for more."""
    names = {"image_model", *(one.name for one in fields(kind))}
    return {name: size for name, size in sizes.items() if name in names}


DIT = {
    "image_model": "flux", "in_channels": 16, "out_channels": 16, "patch_size": 2, "vec_in_dim": 24,
    "context_in_dim": 24, "hidden_size": 32, "mlp_ratio": 2.0, "num_heads": 2, "depth": 1, "depth_single_blocks": 1,
    "axes_dim": [4, 6, 6], "theta": 10000, "qkv_bias": True, "guidance_embed": False, "txt_ids_dims": [],
}  # fmt: skip
FLUX = known(FluxParams, DIT)
CHROMA = known(ChromaParams, {
    **DIT, "image_model": "chroma", "in_channels": 64, "out_channels": 64, "in_dim": 64, "out_dim": 32,
    "hidden_dim": 32, "n_layers": 1, "vec_in_dim": None,
})  # fmt: skip
FLUX2 = {
    **DIT, "image_model": "flux2", "in_channels": 128, "out_channels": 128, "patch_size": 1, "vec_in_dim": None,
    "context_in_dim": 48, "axes_dim": [4, 4, 4, 4], "theta": 2000, "qkv_bias": False, "global_modulation": True,
    "mlp_silu_act": True, "ops_bias": False, "txt_ids_dims": [3],
}  # fmt: skip
Z_IMAGE = {
    "image_model": "lumina2", "patch_size": 2, "in_channels": 16, "dim": 256, "cap_feat_dim": 32, "n_layers": 1,
    "n_refiner_layers": 1, "n_heads": 16, "n_kv_heads": 16, "multiple_of": 32, "axes_dims": [4, 6, 6], "qk_norm": True,
    "axes_lens": [64, 64, 64], "rope_theta": 256.0, "ffn_dim_multiplier": 8 / 3, "z_image_modulation": True,
    "time_scale": 1000.0, "pad_tokens_multiple": 32,
}  # fmt: skip
SD3 = {
    "input_size": None, "patch_size": 2, "in_channels": 16, "depth": 2, "mlp_ratio": 2.0, "adm_in_channels": 48,
    "num_patches": 64, "pos_embed_max_size": 8, "pos_embed_scaling_factor": None,
    "context_embedder_config": {
        "target": "torch.nn.Linear", "params": {"in_features": 4096, "out_features": 128},
    },
}  # fmt: skip
QWEN = {
    "image_model": "qwen_image", "in_channels": 64, "out_channels": 16, "num_layers": 1, "attention_head_dim": 16,
    "num_attention_heads": 2, "joint_attention_dim": 32, "axes_dims_rope": [4, 6, 6],
}  # fmt: skip
QWEN_TEXT = {
    "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1,
}  # fmt: skip
MISTRAL = {**QWEN_TEXT, "hidden_size": 16, "num_hidden_layers": 31}
"""With a layer behind those that the text goes through."""


HEARD = (
    "attn2.to_v", "attn2.to_out", "txt_in.weight", "vector_in.in_layer.weight", "img_attn.proj", "linear2",
    "add_v_proj", "attn.to_out",
)  # fmt: skip
"""Maps that are large, so that text moves a picture by far more than rounding does."""


class NoEyes(torch.nn.Module):
    """In place of what sees pictures, of which text asks nothing: a weight that no state depends on."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(2), requires_grad=False)


def sized(module: torch.nn.Module, scale: float = 0.2) -> None:
    """Random weights that are large enough for every part to be heard."""
    random = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, tensor in (*module.named_parameters(), *module.named_buffers()):
            if tensor.numel() and tensor.is_floating_point():
                size = scale if tensor.ndim > 1 else 0.05
                size *= 5 if any(part in name for part in HEARD) else 1
                tensor.copy_(torch.randn(tensor.shape, generator=random) * size + (0 if tensor.ndim > 1 else 0.5))


def text(config: Any, options: dict[str, Any], target: Any = None, words: Any = None) -> comfy.sd.CLIP:
    target = target or config.clip_target({})
    clip = comfy.sd.CLIP(target, tokenizer_data=words or {}, model_options={**options, "dtype": torch.float32})
    sized(clip.cond_stage_model)
    return clip


def model(kind: Any, unet: dict[str, Any], cast: torch.dtype | None = None, **settings: Any) -> tuple[Any, Any]:
    """A network in float32, of weights that are `cast` to a dtype when they are used."""
    config = kind(dict(unet))
    vars(config).update(settings)
    config.unet_config = dict(unet)
    config.set_inference_dtype(torch.float32, cast)
    network = config.get_model({}, device=CPU)
    sized(network.diffusion_model, 0.1)
    return config, comfy.model_patcher.ModelPatcher(network, load_device=CPU, offload_device=CPU)


def small(
    kind: Any, unet: dict[str, Any], options: dict[str, Any], target: Any = None, words: Any = None
) -> tuple[Any, Any]:
    config, patcher = model(kind, unet)
    return patcher, text(config, {f"{name}_model_config": value for name, value in options.items()}, target, words)


def sd3_target() -> Any:
    class Projected(comfy.text_encoders.sd3_clip.SD3ClipModel):
        """All three, T5 as wide as SD 3's states are filled up to."""

        def __init__(self, device: Any = "cpu", dtype: Any = None, model_options: Any = None) -> None:
            super().__init__(dtype_t5=torch.float32, device=device, dtype=dtype, model_options=model_options or {})

    return models.supported_models_base.ClipTarget(comfy.text_encoders.sd3_clip.SD3Tokenizer, Projected)


def qwen(width: int = 32) -> tuple[Any, Any]:
    qwen_vl.Qwen2VLVisionTransformer = NoEyes
    target = models.supported_models_base.ClipTarget(qwen_image.QwenImageTokenizer, qwen_image.te())
    text = {**QWEN_TEXT, "hidden_size": width}
    return small(models.QwenImage, {**QWEN, "joint_attention_dim": width}, {"qwen25_7b": text}, target)


def mistral(pruned: bool = False) -> tuple[Any, dict[str, Any]]:
    """FLUX.2's text encoder, perhaps without the layers that are not read, and its tokenizer as its file holds it."""
    import comfy.text_encoders.flux as own

    if transformers.__version__ >= "5":  # which ComfyUI's way of making the tokenizer is not for
        own.load_mistral_tokenizer, own.MistralTokenizerClass = tekken.converted, tekken.Ready
    target = models.supported_models_base.ClipTarget(own.Flux2Tokenizer, own.flux2_te(pruned=pruned))
    return target, {"tekken_model": tekken.tensor()}


def flux2() -> tuple[Any, Any]:
    target, words = mistral()
    patcher, clip = small(models.Flux2, FLUX2, {"mistral3_24b": MISTRAL}, target, words)
    with torch.no_grad():  # few words among 512 positions are heard, each for itself
        clip.cond_stage_model.mistral3_24b.transformer.model.embed_tokens.weight.mul_(20)
        for name, tensor in patcher.model.diffusion_model.named_parameters():
            if any(part in name for part in ("query_norm", "key_norm", "linear", "img_attn.proj", "final_layer")):
                tensor.mul_(6)
    return patcher, clip


def as_read(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A file's tensors as ComfyUI reads them: later versions rename the older form of scaled fp8."""
    convert = getattr(comfy.utils, "convert_old_quants", None)
    return convert(dict(tensors))[0] if convert else tensors


FAMILIES: dict[str, Callable[[], tuple[Any, Any]]] = {
    "SD 1": lambda: small(models.SD15, {**UNET, **HEADS}, {"clip_l": CLIP}),
    "SD 2": lambda: small(
        models.SD20, {**UNET, **HEADS, "context_dim": 1024}, {"clip_h": {**CLIP, "hidden_size": 1024}}
    ),
    "SDXL": lambda: small(models.SDXL, SDXL, {"clip_l": CLIP, "clip_g": {**CLIP, "projection_dim": 24}}),
    "SD 3": lambda: small(
        models.SD3, SD3, {"clip_l": CLIP, "clip_g": CLIP, "t5xxl": {**T5, "d_model": 4096, "d_ff": 8}}, sd3_target()
    ),
    "FLUX.1": lambda: small(models.Flux, FLUX, {"clip_l": CLIP, "t5xxl": T5}),
    "Chroma": lambda: small(models.Chroma, CHROMA, {"t5xxl": T5}),
    "Qwen-Image": qwen,
    "FLUX.2 dev": flux2,
    "Z-Image": lambda: small(models.ZImage, Z_IMAGE, {"qwen3_4b": {**QWEN_TEXT, "num_hidden_layers": 3}}),
}


def said(ask: Any, *arguments: Any) -> str:
    """What something is refused with; empty where it is not."""
    try:
        ask(*arguments)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def conditioning(clip: Any, prompt: str) -> list[Any]:
    return list(clip.encode_from_tokens_scheduled(clip.tokenize(prompt)))


def drawn(patcher: Any, positive: Any, negative: Any, cfg: float = 3.0, batch: int = 1, side: int = 8) -> torch.Tensor:
    """A latent by ComfyUI's own sampler."""
    channels = patcher.get_model_object("latent_format").latent_channels
    start = torch.zeros(
        batch, channels, *([1] if patcher.get_model_object("latent_format").latent_dimensions == 3 else []), side, side
    )
    noise = comfy.sample.prepare_noise(start, 1)
    return comfy.sample.sample(
        patcher, noise, 2, cfg, "euler", "normal", positive, negative, start, disable_pbar=True, seed=1
    ).double()  # fmt: skip


def _node() -> Any:
    place = NODE / "__init__.py"
    spec = importlib.util.spec_from_file_location("timecli_nodes", place, submodule_search_locations=[str(NODE)])
    assert spec and spec.loader
    module = sys.modules["timecli_nodes"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


pack = _node()
