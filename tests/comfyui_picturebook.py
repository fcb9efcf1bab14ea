"""picturebook by ComfyUI's own classes: a loader for processes beside a checkout of it, and a node that loads it.

ComfyUI tells a model by SD 1's widths, which are not picturebook's; here its own config says them.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import comfy.latent_formats
import comfy.model_patcher
import comfy.sd
import comfy.supported_models as models
import torch
from comfy.sd1_clip import SDTokenizer
from safetensors.torch import load_file

FOLDER = Path(__file__).parent.parent / "examples" / "picturebook"
CPU = torch.device("cpu")


class Wide(int):
    """A level's width, where ComfyUI multiplies a factor with the first level's."""

    def __mul__(self, other: int) -> int:
        return int(self)

    __rmul__ = __mul__


def config(folder: Path, part: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "config" / part / "config.json").read_text())
    return found


def load(file: Path, folder: Path = FOLDER) -> tuple[Any, Any, Any]:
    """MODEL, CLIP and VAE of a copy of picturebook, in float32."""
    tensors = {name: tensor.float() for name, tensor in load_file(file).items() if tensor.is_floating_point()}
    unet, text, vae = (config(folder, part) for part in ("unet", "text_encoder", "vae"))
    wide = unet["block_out_channels"]
    sizes = {
        "image_size": 8, "in_channels": 4, "out_channels": 4, "model_channels": wide[0], "num_res_blocks": [2, 2, 2, 2],
        "channel_mult": [Wide(one) for one in wide], "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
        "transformer_depth_output": [1] * 9 + [0] * 3, "transformer_depth_middle": 1,
        "context_dim": unet["cross_attention_dim"], "use_spatial_transformer": True, "legacy": False,
        "use_linear_in_transformer": False, "adm_in_channels": None, "use_temporal_attention": False,
        "num_heads": unet["attention_head_dim"], "num_head_channels": -1,
    }  # fmt: skip
    found = models.SD15(dict(sizes))
    found.unet_config = sizes
    found.latent_format = comfy.latent_formats.SD15(vae["scaling_factor"])
    found.set_inference_dtype(torch.float32, None)
    with groups(unet["norm_num_groups"]):
        network = found.get_model({}, device=CPU)
    part = {
        name.removeprefix("model.diffusion_model."): t for name, t in tensors.items() if ".diffusion_model." in name
    }
    network.diffusion_model.load_state_dict(part)
    patcher = comfy.model_patcher.ModelPatcher(network, load_device=CPU, offload_device=CPU)
    words = partial(SDTokenizer, tokenizer_path=str(folder / "config" / "tokenizer"))
    options = {"clip_l_model_config": text, "dtype": torch.float32}
    clip = comfy.sd.CLIP(found.clip_target({}), tokenizer_data={"clip_l_tokenizer_class": words}, model_options=options)
    prefix = "cond_stage_model.transformer."
    places = clip.cond_stage_model.clip_l.transformer.text_model.embeddings.token_embedding
    places.weight = torch.nn.Parameter(places.weight[: text["vocab_size"]].clone(), requires_grad=False)
    missing, unknown = clip.load_sd({n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)})
    assert set(missing) <= {"text_projection.weight"} and not unknown, (missing, unknown)
    return patcher, clip, decoder(tensors, vae)


def decoder(tensors: dict[str, torch.Tensor], vae: dict[str, Any]) -> Any:
    narrow = vae["block_out_channels"]
    sizes = {
        "double_z": True, "z_channels": 4, "resolution": 64, "in_channels": 3, "out_ch": 3, "ch": narrow[0],
        "ch_mult": [one // narrow[0] for one in narrow], "num_res_blocks": 2, "attn_resolutions": [], "dropout": 0.0,
    }  # fmt: skip
    part = {name.removeprefix("first_stage_model."): t for name, t in tensors.items() if name.startswith("first_stage")}
    with groups(vae["norm_num_groups"]):
        return comfy.sd.VAE(part, config={"params": {"ddconfig": sizes, "embed_dim": 4}}, dtype=torch.float32)


class groups:
    """Inside, ComfyUI's UNet norms in so many groups, where it has 32 for all."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __enter__(self) -> None:
        import comfy.ops

        self.kind, count = comfy.ops.disable_weight_init.GroupNorm, self.count

        class Grouped(self.kind):  # type: ignore[misc, name-defined]
            def __init__(self, num_groups: int, num_channels: int, **options: Any) -> None:
                super().__init__(count, num_channels, **options)

        comfy.ops.disable_weight_init.GroupNorm = Grouped

    def __exit__(self, *error: Any) -> None:
        import comfy.ops

        comfy.ops.disable_weight_init.GroupNorm = self.kind


class LoadPicturebook:
    """picturebook as a node, in place of ComfyUI's loader."""

    RETURN_TYPES, FUNCTION, CATEGORY = ("MODEL", "CLIP", "VAE"), "load", "loaders"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"ckpt_name": (["picturebook.safetensors"],)}}

    def load(self, ckpt_name: str) -> tuple[Any, Any, Any]:
        return load(FOLDER / ckpt_name)


NODE_CLASS_MAPPINGS = {"LoadPicturebook": LoadPicturebook}
NODE_DISPLAY_NAME_MAPPINGS = {"LoadPicturebook": "Load picturebook"}
