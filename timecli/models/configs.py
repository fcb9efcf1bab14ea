"""Configs of text encoders from the shapes of their tensors, where a file comes without one."""

from __future__ import annotations

from typing import Any

from timecli.models.layouts import CLIP, HF_MARK, MISTRAL, QWEN3_4B, QWEN_VL, T5, Shapes
from timecli.models.openclip import HF_PROJECTION
from timecli.models.streams import Tower

WIDTHS = ("hidden_size", "d_model")
"""How configs call a text encoder's width."""
CLIP_HEAD, HEAD = 64, 128
"""How wide every attention head is, of CLIP and of language models."""
LAYER = "model.layers.0."
"""The first layer of a language model."""
CLIP_POSITIONS = 77
"""Longer ones are read in another way."""
KNOWN: dict[str, dict[str, Any]] = {
    # what no shape shows, as the config.json of these models states it
    "CLIP": {  # openai/clip-vit-large-patch14, laion/CLIP-ViT-bigG-14-laion2B-39B-b160k
        "model_type": "clip_text_model", "hidden_act": "gelu", "layer_norm_eps": 1e-5, "bos_token_id": 0,
        "eos_token_id": 2,  # the vector is of the token with the highest id, which is the end
    },
    "T5": {  # google/t5-v1_1-xxl
        "model_type": "t5", "feed_forward_proj": "gated-gelu", "layer_norm_epsilon": 1e-6,
        "relative_attention_max_distance": 128, "is_encoder_decoder": True, "tie_word_embeddings": False,
    },
    "Qwen2.5-VL": {  # Qwen/Qwen2.5-VL-7B-Instruct
        "rms_norm_eps": 1e-6, "rope_theta": 1e6, "hidden_act": "silu", "max_position_embeddings": 128000,
        "rope_scaling": {"type": "mrope", "rope_type": "default", "mrope_section": [16, 24, 24]},
        "tie_word_embeddings": False, "use_sliding_window": False,
    },
    "Qwen3": {  # Qwen/Qwen3-4B
        "model_type": "qwen3", "rms_norm_eps": 1e-6, "rope_theta": 1e6, "hidden_act": "silu", "head_dim": HEAD,
        "max_position_embeddings": 40960, "attention_bias": False, "use_sliding_window": False,
        "tie_word_embeddings": True,
    },
    "Mistral": {  # mistralai/Mistral-Small-3.2-24B-Instruct-2506, of which ComfyUI's file lacks the last ten layers
        "model_type": "mistral", "rms_norm_eps": 1e-5, "rope_theta": 1e9, "hidden_act": "silu", "head_dim": HEAD,
        "max_position_embeddings": 131072, "num_hidden_layers": 40, "sliding_window": None,
        "tie_word_embeddings": False,
    },
}  # fmt: skip
EYES = {
    "depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 1, "fullatt_block_indexes": [0],
}  # fmt: skip
"""Of what sees pictures, which no text goes through: the smallest that there is."""


def of_tower(tower: Tower, shapes: Shapes) -> dict[str, Any] | None:
    """The `config.json` of a text encoder; None where the shapes are another kind's.

    Args:
        tower: in whose place it stands.
        shapes: of its tensors, by transformers' names.
    """
    kinds = {T5.model: _t5, QWEN_VL.model: _qwen_vl, QWEN3_4B.model: _qwen3, MISTRAL.model: _mistral}
    return kinds.get(tower.model, _clip)(shapes)


def of_text(config: dict[str, Any]) -> dict[str, Any]:
    """What a config says of the text, where it is of several parts."""
    return config["text_config"] if isinstance(config.get("text_config"), dict) else config


def width(config: dict[str, Any]) -> int | None:
    """The d of the states; None where a config does not name it."""
    about = of_text(config)
    return next((about[key] for key in WIDTHS if isinstance(about.get(key), int)), None)


def _clip(shapes: Shapes) -> dict[str, Any] | None:
    shapes = {name.removeprefix("text_model."): shape for name, shape in shapes.items()}
    table, places = _pair(shapes, HF_MARK), _pair(shapes, "embeddings.position_embedding.weight")
    inner = _pair(shapes, "encoder.layers.0.mlp.fc1.weight")
    if not (table and places and inner) or places[0] != CLIP_POSITIONS or table[1] % CLIP_HEAD:
        return None
    vocabulary, width = table
    act = {"hidden_act": "quick_gelu"} if width <= CLIP.width else {}  # OpenAI's; the wider ones are OpenCLIP's
    return {
        **KNOWN["CLIP"], **act, "vocab_size": vocabulary, "hidden_size": width, "intermediate_size": inner[0],
        "num_hidden_layers": _layers(shapes, "encoder.layers."), "num_attention_heads": width // CLIP_HEAD,
        "max_position_embeddings": CLIP_POSITIONS, "projection_dim": shapes.get(HF_PROJECTION, (width,))[0],
    }  # fmt: skip


def _t5(shapes: Shapes) -> dict[str, Any] | None:
    attention = "encoder.block.{}.layer.0.SelfAttention."
    first, second = (attention.format(number) + "relative_attention_bias.weight" for number in (0, 1))
    buckets, queries = _pair(shapes, first), _pair(shapes, attention.format(0) + "q.weight")
    inner = _pair(shapes, "encoder.block.0.layer.1.DenseReluDense.wi_0.weight")
    table = _pair(shapes, "shared.weight") or _pair(shapes, "encoder.embed_tokens.weight")
    if not (table and buckets and queries and inner) or second in shapes or queries[0] % buckets[1]:
        return None  # UMT5, of Wan, is as wide, and has a bias in every layer
    return {
        **KNOWN["T5"], "vocab_size": table[0], "d_model": table[1], "d_ff": inner[0], "num_heads": buckets[1],
        "d_kv": queries[0] // buckets[1], "relative_attention_num_buckets": buckets[0],
        "num_layers": _layers(shapes, "encoder.block."),
    }  # fmt: skip


def _qwen_vl(shapes: Shapes) -> dict[str, Any] | None:
    keys, inner = shapes.get(f"{LAYER}self_attn.k_proj.bias"), _pair(shapes, f"{LAYER}mlp.gate_proj.weight")
    table = _pair(shapes, "model.embed_tokens.weight")
    if not (keys and table and inner) or keys[0] % HEAD or table[1] % HEAD:
        return None
    text = {
        **KNOWN["Qwen2.5-VL"], "vocab_size": table[0], "hidden_size": table[1], "intermediate_size": inner[0],
        "num_hidden_layers": _layers(shapes, "model.layers."), "num_attention_heads": table[1] // HEAD,
        "num_key_value_heads": keys[0] // HEAD,
    }  # fmt: skip
    eyes = {**EYES, "out_hidden_size": table[1]}
    return {"model_type": "qwen2_5_vl", "text_config": text, "vision_config": eyes}


def _qwen3(shapes: Shapes) -> dict[str, Any] | None:
    found = _language(shapes)
    return {**found, **KNOWN["Qwen3"]} if found and f"{LAYER}self_attn.q_norm.weight" in shapes else None


def _mistral(shapes: Shapes) -> dict[str, Any] | None:
    beside = any(f"{LAYER}self_attn.{name}" in shapes for name in ("q_norm.weight", "k_proj.bias"))
    found = None if beside else _language(shapes)
    if not found or found["num_hidden_layers"] < MISTRAL.layers:
        return None
    eyes = {**EYES, "model_type": "pixtral", "num_attention_heads": 1, "num_hidden_layers": 1, "image_size": 16}
    return {"model_type": "mistral3", "text_config": {**found, **KNOWN["Mistral"]}, "vision_config": eyes}


def _language(shapes: Shapes) -> dict[str, Any] | None:
    """The sizes of a language model whose attention has its heads by their number, without biases."""
    table, inner = _pair(shapes, "model.embed_tokens.weight"), _pair(shapes, f"{LAYER}mlp.gate_proj.weight")
    queries, keys = (_pair(shapes, f"{LAYER}self_attn.{one}_proj.weight") for one in "qk")
    if not (table and inner and queries and keys) or queries[0] % HEAD or keys[0] % HEAD:
        return None
    return {
        "vocab_size": table[0], "hidden_size": table[1], "intermediate_size": inner[0],
        "num_hidden_layers": _layers(shapes, "model.layers."), "num_attention_heads": queries[0] // HEAD,
        "num_key_value_heads": keys[0] // HEAD,
    }  # fmt: skip


def _pair(shapes: Shapes, name: str) -> tuple[int, int] | None:
    """The shape of a matrix; None where it is missing, or none."""
    found = shapes.get(name, ())
    return (found[0], found[1]) if len(found) == 2 and all(found) else None


def _layers(shapes: Shapes, prefix: str) -> int:
    return len({name.removeprefix(prefix).split(".")[0] for name in shapes if name.startswith(prefix)})
