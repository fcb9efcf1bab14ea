"""Run beside a checkout of ComfyUI, with a family's name and a folder: ComfyUI's states against the command line's.

The same small random text encoders are read by both. Prints how far a source goes with the edit that was solved with
the states that the network reads, and with the other's.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import comfyui_small as small

# isort: split
import comfy.text_encoders
import diffusers
import tekken
import torch
import transformers
from timecli_nodes import network, states

import timecli
from timecli.models import layouts
from timecli.models.comfyui import TEMPLATES
from timecli.models.maps import Maps
from timecli.models.streams import POOLED, TEXT
from timecli.text.pipelines import PipelineEncoder

family, place = small.ARGUMENTS[0], Path(small.ARGUMENTS[1])
MANIFEST = """
name = "x"
[solve]
augment = false
SOLVE
[[edit]]
source = "a rose"
destination = "a blue rose"
[preserve]
everyday = "few.txt"
"""
FOR_COMFYUI = {
    # what a manifest asks for so that the command line reads as ComfyUI does: a length, and lines of [solve]
    "FLUX.1": {"for ComfyUI": (256, "length = 256\n")},
    "SD 3": {"for ComfyUI": (77, "length = 77\n")},
    "Chroma": {"for ComfyUI": (None, 'tokens = "prompt"\n')},
    "FLUX.2 dev": {"for ComfyUI": (None, 'tokens = "prompt"\n')},
}
HOME = Path(comfy.text_encoders.__path__[0])
WIDE = 256
"""Of Qwen2.5-VL, of which ComfyUI has heads of 128 alone."""
CLIP = {
    "vocab_size": 49408, "hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2,
    "bos_token_id": 49406, "eos_token_id": 49407, "projection_dim": 24,
}  # fmt: skip


def t5(clip: Any, width: int) -> dict[str, Any]:
    sizes = {**small.T5, "d_model": width, "d_ff": 8 if width > 24 else 32}
    config = transformers.T5Config(vocab_size=32128, feed_forward_proj="gated-gelu", **sizes)
    model = transformers.T5EncoderModel(config).eval()
    wrong = model.load_state_dict(clip.cond_stage_model.t5xxl.transformer.state_dict(), strict=False)
    assert not [name for name in wrong.missing_keys if "embed_tokens" not in name], wrong
    return {"model": model, "words": transformers.T5TokenizerFast.from_pretrained(HOME / "t5_tokenizer")}


def tower(part: Any, kind: Any, act: str) -> dict[str, Any]:
    model = kind(transformers.CLIPTextConfig(**CLIP, hidden_act=act)).eval()
    there = {name.removeprefix("text_model."): tensor for name, tensor in part.transformer.state_dict().items()}
    names = {name: name.removeprefix("text_model.") for name in model.state_dict()}
    model.load_state_dict({name: there[short] for name, short in names.items()})
    return {"model": model, "words": transformers.CLIPTokenizer.from_pretrained(HOME.parent / "sd1_tokenizer")}


def qwen(part: Any) -> Any:
    sizes = {**small.QWEN_TEXT, "hidden_size": WIDE, "vocab_size": 152064, "rms_norm_eps": 1e-6, "rope_theta": 1e6}
    sections = {"type": "mrope", "mrope_section": [16, 24, 24], "rope_type": "default"}
    eyes = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": WIDE}
    config = transformers.Qwen2_5_VLConfig(text_config={**sizes, "rope_scaling": sections}, vision_config=eyes)
    model = transformers.Qwen2_5_VLForConditionalGeneration(config).eval()
    there = {name.removeprefix("model."): t for name, t in part.transformer.state_dict().items()}
    wrong = model.model.language_model.load_state_dict(there, strict=False)
    assert not wrong.missing_keys, wrong
    return model


def language(part: Any, kind: Any, config: Any) -> Any:
    """A language model with the weights of ComfyUI's."""
    model = kind(config).eval()
    there = {name.removeprefix("model."): t for name, t in part.transformer.state_dict().items()}
    wrong = (model.model.language_model if hasattr(model, "model") else model).load_state_dict(there, strict=False)
    assert not wrong.missing_keys and not wrong.unexpected_keys, wrong
    return model


def mistral(part: Any) -> Any:
    sizes = {**small.MISTRAL, "vocab_size": 131072, "head_dim": 128, "rms_norm_eps": 1e-5, "rope_theta": 1e9}
    eyes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1}
    config = transformers.Mistral3Config(
        text_config={**sizes, "model_type": "mistral", "sliding_window": None},
        vision_config={**eyes, "model_type": "pixtral", "image_size": 16, "patch_size": 8},
    )
    return language(part, transformers.Mistral3ForConditionalGeneration, config)


def pipeline(clip: Any) -> Any:
    stage = clip.cond_stage_model
    if family == "Z-Image":
        sizes = {**small.QWEN_TEXT, "num_hidden_layers": 3, "vocab_size": 151936, "head_dim": 128, "rope_theta": 1e6}
        words = transformers.Qwen2Tokenizer.from_pretrained(HOME / "qwen25_tokenizer")
        words.chat_template = TEMPLATES[layouts.QWEN3_4B.model]
        config = transformers.Qwen3Config(**sizes, rms_norm_eps=1e-6)
        return built(
            diffusers.ZImagePipeline, text_encoder=language(stage.qwen3_4b, transformers.Qwen3Model, config),
            tokenizer=words,
        )  # fmt: skip
    if family == "FLUX.2 dev":
        engine = tekken.converted(tekken.tensor())["tokenizer_object"]
        words = transformers.PreTrainedTokenizerFast(
            tokenizer_object=engine, pad_token="<pad>", bos_token="<s>", padding_side="left",
            chat_template=TEMPLATES[layouts.MISTRAL.model],
        )  # fmt: skip
        return built(diffusers.Flux2Pipeline, text_encoder=mistral(stage.mistral3_24b), tokenizer=words)
    if family == "Chroma":
        one = t5(clip, 24)
        return built(diffusers.ChromaPipeline, text_encoder=one["model"], tokenizer=one["words"])
    if family == "FLUX.1":
        one, two = tower(stage.clip_l, transformers.CLIPTextModel, "quick_gelu"), t5(clip, 24)
        return built(
            diffusers.FluxPipeline, text_encoder=one["model"], tokenizer=one["words"], text_encoder_2=two["model"],
            tokenizer_2=two["words"],
        )  # fmt: skip
    if family == "Qwen-Image":
        return built(
            diffusers.QwenImagePipeline, text_encoder=qwen(stage.qwen25_7b),
            tokenizer=transformers.Qwen2Tokenizer.from_pretrained(HOME / "qwen25_tokenizer"),
        )  # fmt: skip
    kind = transformers.CLIPTextModelWithProjection
    one, two, three = tower(stage.clip_l, kind, "quick_gelu"), tower(stage.clip_g, kind, "gelu"), t5(clip, 4096)
    two["words"].pad_token = "!"
    return built(
        diffusers.StableDiffusion3Pipeline, text_encoder=one["model"], tokenizer=one["words"],
        text_encoder_2=two["model"], tokenizer_2=two["words"], text_encoder_3=three["model"],
        tokenizer_3=three["words"],
    )  # fmt: skip


def built(kind: Any, **parts: Any) -> Any:
    import inspect

    for name, one in parts.items():
        if name.startswith("tokenizer"):
            one.model_max_length = 77 if isinstance(one, transformers.CLIPTokenizer) else 512
    missing = [name for name in inspect.signature(kind.__init__).parameters if name not in ("self", *parts)]
    return kind(**dict.fromkeys(missing), **parts)


def share(read: timecli.Loaded, solved: timecli.Loaded, lines: str = "") -> float:
    """How far the source goes where one reads and the other has solved."""
    (place / "m.toml").write_text(MANIFEST.replace("SOLVE", lines))
    manifest = timecli.load_manifest(place / "m.toml")
    worlds = [timecli.everyday_world(manifest, one, place / f"{id(one.encoder)}") for one in (solved, read)]
    delta = timecli.compile(manifest, solved, worlds[0])
    return float(timecli.plan(manifest, read, delta, worlds[1]).forecasts[0].share or 0)


@torch.inference_mode()
def main() -> dict[str, Any]:
    (place / "few.txt").write_text(small.FEW)
    patcher, clip = small.qwen(WIDE) if family == "Qwen-Image" else small.FAMILIES[family]()
    maps: Maps = network.maps(patcher)
    ours = states.read(clip, maps)
    widths = {reader.stream: reader.width for reader in ours.readers}
    made = pipeline(clip)
    comfy, found = timecli.Loaded(maps, ours, small.CPU), {}
    found["node"] = share(comfy, comfy)
    for name, (length, lines) in {"command line": (None, ""), **FOR_COMFYUI.get(family, {})}.items():
        other = PipelineEncoder(
            family=maps.family, pipeline=made, widths={TEXT: widths[TEXT], POOLED: widths.get(POOLED, 0)}, asked=length,
            fingerprints=(f"{length}",), device=small.CPU, norm=ours.norm,
        )  # fmt: skip
        theirs = timecli.Loaded(maps, other, small.CPU)
        found[name] = share(comfy, theirs, lines)
        node = timecli.Loaded(maps, states.read(clip, maps, length), small.CPU)
        found[f"{name}, reads what the node solved"] = share(theirs, node, lines)
        found[f"{name}, read by itself"] = share(theirs, theirs, lines)
        one, same = ours.encode(["a rose"])[0][TEXT], other.encode(["a rose"])[0][TEXT]
        found[f"{name}, rows"] = [len(one), len(same)]
        if len(one) == len(same):
            found[f"{name}, apart"] = float((one - same).norm() / one.norm())
    return found


print(json.dumps(main()))
