"""Our tokenizer and text tower as transformers' own, with which diffusers draws."""

from __future__ import annotations

import copy

import torch
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer, PreTrainedTokenizerFast

from timecli.errors import explained
from timecli.text.clip import TextTower
from timecli.text.tokenizers import END, START, Tokenizer


def tokenizer(own: Tokenizer, length: int = 77) -> PreTrainedTokenizerFast:
    """A tokenizer for a pipeline: the folder's, as transformers reads it, or CLIP's; it pads to `length` tokens."""
    if own.folder is not None:
        with explained(f"{own.folder} cannot be read as a tokenizer"):
            found = CLIPTokenizer.from_pretrained(own.folder, local_files_only=True, trust_remote_code=False)
            found.model_max_length = length  # a config can say anything, and diffusers pads to it
            return found
    (pad,) = own.tokens([own.pad])
    named = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": pad}
    return PreTrainedTokenizerFast(tokenizer_object=own.engine, model_max_length=length, **named)


def text_encoder(own: TextTower, dtype: torch.dtype) -> CLIPTextModel:
    """A text encoder for a pipeline, with the layers that the text goes through, on the CPU."""
    inner = own.weights["encoder.layers.0.mlp.fc1.weight"].shape[0]
    config = CLIPTextConfig(
        hidden_size=own.width, intermediate_size=inner, max_position_embeddings=own.length,
        vocab_size=len(own.weights["embeddings.token_embedding.weight"]), num_hidden_layers=own.depth,
        num_attention_heads=own.heads, hidden_act=own.activation, layer_norm_eps=own.epsilon,
    )  # fmt: skip
    with torch.device("meta"):  # no time and no memory for weights that are replaced at once
        model = CLIPTextModel(config)
    kept = {name: own.weights[name].to("cpu", dtype) for name in model.state_dict() if name in own.weights}
    model.load_state_dict(kept, strict=False, assign=True)
    model.embeddings.position_ids = torch.arange(own.length)[None]
    return model.eval()


def in_dtype(model: torch.nn.Module, dtype: torch.dtype) -> torch.nn.Module:
    """The model where it has this dtype, else a copy of it that has."""
    same = all(tensor.dtype == dtype for tensor in model.parameters())
    return model if same else copy.deepcopy(model).to(dtype)
