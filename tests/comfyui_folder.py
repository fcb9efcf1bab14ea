"""Run beside a checkout of ComfyUI, with a family's name and a folder: ComfyUI's states against those of `--comfyui`.

ComfyUI's own text encoders, small and random, are saved into a folder laid out as ComfyUI's, whose code is the
checkout's. Prints how far the states that the command line makes of that folder are from ComfyUI's own. With
`scaled` before the folder, language models are in fp8 with factors; their biases are numbers of fp8 in ComfyUI, too.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import comfyui_small as small
import scaling
import tekken

# isort: split
import comfy
import comfy.supported_models as models
import torch
from safetensors.torch import load_file, save_file
from timecli_nodes import states as nodes

from timecli.commands.comfyui import beside
from timecli.commands.groups import Reading
from timecli.models import layouts
from timecli.models.checkpoint import open_checkpoint
from timecli.models.streams import POOLED, TEXT, Family
from timecli.text.encoding import read_text_encoder

family, scaled, home = small.ARGUMENTS[0], small.ARGUMENTS[1:-1], Path(small.ARGUMENTS[-1])
LONG = "a red cat on a roof in the rain at night, " * 8
PROMPTS = ("", "a rose", "A blue rose, in the snow: 4k \u201cphoto\u201d", LONG[:240])
VERY_LONG = LONG * 4
"""More than T5's 256 tokens; CLIP's vector is of the first 77."""
HEADS = {"hidden_size": 64, "num_attention_heads": 1, "intermediate_size": 32, "num_hidden_layers": 3}
L, G = {**HEADS, "hidden_size": 768, "num_attention_heads": 12}, {
    **HEADS, "hidden_size": 1280, "num_attention_heads": 20, "projection_dim": 1280,
}  # fmt: skip
WIDE = {**HEADS, "hidden_size": 128, "num_attention_heads": 2, "projection_dim": 128}
DEEP = {**HEADS, "num_hidden_layers": 24}
QWEN = {**small.QWEN_TEXT, "hidden_size": 256, "num_attention_heads": 2, "num_key_value_heads": 1}
MISTRAL = {**small.MISTRAL, "num_hidden_layers": 30, "hidden_size": 5120, "num_attention_heads": 1, "vocab_size": 1000}
"""As wide as the released one, since its width tells FLUX.2 dev from klein."""
FAMILIES: dict[str, tuple[Any, Family, dict[str, Any], dict[str, int]]] = {
    # ComfyUI's class, the family, its small text encoders, the widths of the network's maps
    "SD 1": (models.SD15, layouts.SD1, {"clip_l": HEADS}, {TEXT: 64}),
    "SD 2": (models.SD20, layouts.SD2, {"clip_h": DEEP}, {TEXT: 64}),
    "SDXL": (models.SDXL, layouts.SDXL, {"clip_l": HEADS, "clip_g": WIDE}, {TEXT: 192, POOLED: 128 + 1536}),
    "SD 3": (
        models.SD3, layouts.SD3, {"clip_l": L, "clip_g": G, "t5xxl": {**small.T5, "d_model": 4096, "d_ff": 8}},
        {TEXT: 4096, POOLED: 2048},
    ),
    "FLUX.1": (models.Flux, layouts.FLUX1, {"clip_l": HEADS, "t5xxl": small.T5}, {TEXT: 24, POOLED: 64}),
    "Chroma": (models.Chroma, layouts.CHROMA, {"t5xxl": small.T5}, {TEXT: 24}),
    "Qwen-Image": (models.QwenImage, layouts.QWEN_IMAGE, {"qwen25_7b": QWEN}, {TEXT: 256}),
    "FLUX.2 dev": (getattr(models, "Flux2", None), layouts.FLUX2_DEV, {"mistral3_24b": MISTRAL}, {TEXT: 15360}),
    "Z-Image": (
        getattr(models, "ZImage", None), layouts.Z_IMAGE, {"qwen3_4b": {**small.QWEN_TEXT, "num_hidden_layers": 3}},
        {TEXT: 32},
    ),
}  # fmt: skip


def text(kind: Any, options: dict[str, Any], forms: dict[str, Any] | None = None) -> Any:
    config, target, words = kind({}), None, {}
    if family == "SD 3":
        target = small.sd3_target()
    if family == "Qwen-Image":
        small.qwen_vl.Qwen2VLVisionTransformer = small.NoEyes
        target = models.supported_models_base.ClipTarget(small.qwen_image.QwenImageTokenizer, small.qwen_image.te())
    if family == "FLUX.2 dev":
        target, words = small.mistral(pruned=True)
    sizes = {f"{name}_model_config": value for name, value in options.items()}
    return small.text(config, {**sizes, **(forms or {})}, target, words)


def as_scaled(kind: Any, options: dict[str, Any]) -> Any:
    """Text encoders in fp8 with factors, as ComfyUI loads their files: by the names that two of its versions have."""
    before = "t5xxl_" if "t5xxl" in options else ""
    forms = {f"{before}scaled_fp8": scaling.E4M3, f"{before}quantization_metadata": {"mixed_ops": True}}
    clip = text(kind, options, {**forms, "initial_device": torch.device("cpu:0")})  # not in use before it has weights
    for file in (home / "models" / "text_encoders").glob("*"):
        wrong = clip.load_sd(small.as_read(load_file(file)))
        assert not wrong.missing_keys or set(wrong.missing_keys) <= {"logit_scale"}, wrong
    return clip


def save(kind: Any, row: Family, clip: Any, widths: dict[str, int]) -> Path:
    """The network's maps, and the text encoders in files of their own, or inside where several programs have them."""
    (home / "comfy").symlink_to(next(iter(comfy.__path__)), target_is_directory=True)
    random = torch.Generator().manual_seed(3)
    maps = {m.names[0]: torch.randn(8, widths[m.stream], generator=random) for m in row.matrices}
    maps |= {row.marks[0]: torch.zeros(4, 4)} if row.marks else {}
    maps |= {row.norm[0]: torch.rand(widths[TEXT], generator=random)} if row.norm else {}
    state = clip.cond_stage_model.state_dict()
    if family in ("SD 2", "SDXL"):
        maps = {f"model.diffusion_model.{name}": tensor for name, tensor in maps.items()}
        maps |= {name: t.clone() for name, t in kind({}).process_clip_state_dict_for_saving(dict(state)).items()}
    place = home / "models" / ("checkpoints" if family in ("SD 2", "SDXL") else "diffusion_models")
    place.mkdir(parents=True)
    save_file({name: tensor.contiguous() for name, tensor in maps.items()}, place / "model.safetensors")
    for name in {key.split(".")[0] for key in state} if place.name != "checkpoints" else ():
        part = {key.split(".transformer.")[1]: t.clone() for key, t in state.items() if key.startswith(f"{name}.trans")}
        (home / "models" / "text_encoders").mkdir(exist_ok=True)
        if scaled and not name.startswith("clip"):
            part, _ = scaling.scaled({key: fp8(t) if key.endswith("bias") else t for key, t in part.items()})
        part |= {"tekken_model": tekken.tensor()} if name.startswith("mistral") else {}
        save_file(part, home / "models" / "text_encoders" / f"{name[::-1]}.safetensors")
    return Path("model.safetensors")


def fp8(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to(scaling.E4M3).float()


def off(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one.double() - other.double()).norm() / other.double().norm()) if one.shape == other.shape else 9.0


@torch.inference_mode()
def main() -> dict[str, Any]:
    kind, row, options, widths = FAMILIES[family]
    clip = text(kind, options)
    if family == "FLUX.2 dev":
        small.sized(clip.cond_stage_model, 0.02)  # 30 layers, which double what is rounded
    path, reading = beside(save(kind, row, clip, widths), Reading(comfyui=home))
    clip = as_scaled(kind, options) if scaled else clip
    checkpoint = open_checkpoint(path, reading.config, reading.text_encoder or ())
    ours, plain = (read_text_encoder(checkpoint, None, small.CPU, comfyui=one) for one in (True, False))
    found: dict[str, Any] = {"family": checkpoint.family.name, "states_of": ours.states_of, "text": 0.0, "pooled": 0.0}
    for prompt in PROMPTS if family not in ("FLUX.1", "Chroma") else (*PROMPTS, VERY_LONG):
        made = clip.encode_from_tokens(clip.tokenize(prompt), return_dict=True)
        states = made["cond"][0].float()
        if row.norm:
            states = torch.nn.functional.rms_norm(states, states.shape[1:], checkpoint.norm(), row.norm[1])
        (one,) = ours.encode([prompt])
        found["text"] = max(found["text"], off(one[TEXT], states))
        if POOLED in one:
            found["pooled"] = max(found["pooled"], off(one[POOLED], made["pooled_output"].float()))
        if prompt == "a rose":
            found["rows"] = [len(one[TEXT]), len(states), len(plain.encode([prompt])[0][TEXT])]
    norm = checkpoint.norm()
    found["fingerprint"] = nodes._of_weights(clip, row, norm)[0] == ours.fingerprint
    return found


print(json.dumps(main()))
