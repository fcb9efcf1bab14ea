"""A small tokenizer of Mistral's, as the file of FLUX.2's text encoder holds it."""

from __future__ import annotations

import base64
import json
import tempfile
from pathlib import Path
from typing import Any

import torch

PATTERN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}"
    r"\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""How the released file says that a text is cut before the vocabulary is asked."""
CUT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|"
    r"\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""How the converter in transformers 4 cuts it, which ComfyUI does not tell of the file's pattern."""
SPECIAL = [
    "<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_RESULTS]",
    "[/TOOL_RESULTS]", "[TOOL_CALLS]", "[IMG]", "<pad>", "[IMG_BREAK]", "[IMG_END]", "[PREFIX]", "[MIDDLE]", "[SUFFIX]",
    "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[TOOL_CONTENT]",
]  # fmt: skip
WHOLE = (
    "You are an AI that reasons about image descriptions You give structured responses focusing on object relationships"
    " attribution and actions without speculation rose blue cat green hat red dog in the snow iPhone"
)
"""Words that are one token, those of the template and some of prompts."""


def data() -> bytes:
    """Mistral's `tekken.json`: every byte, and the words from their beginnings on, behind the special tokens."""
    words = [f"{space}{word}".encode() for word in WHOLE.split() for space in ("", " ")]
    parts = dict.fromkeys(word[:end] for word in words for end in range(2, len(word) + 1))
    ranks = [*(bytes([one]) for one in range(256)), *parts]
    beyond = [*ranks, b" beyond"]  # a released file has more than its text encoder reads
    about = {
        "config": {
            "pattern": PATTERN, "num_vocab_tokens": len(beyond), "default_vocab_size": len(SPECIAL) + len(ranks),
            "default_num_special_tokens": len(SPECIAL), "version": "v7",
        },
        "vocab": [
            {"rank": rank, "token_bytes": base64.b64encode(token).decode(), "token_str": None}
            for rank, token in enumerate(beyond)
        ],
        "special_tokens": [
            {"rank": rank, "token_str": name, "is_control": True} for rank, name in enumerate(SPECIAL)
        ],
    }  # fmt: skip
    return json.dumps(about).encode()


def tensor() -> torch.Tensor:
    """The tensor `tekken_model`, uint8."""
    return torch.tensor(list(data()), dtype=torch.uint8)


def converted(stored: torch.Tensor) -> dict[str, Any]:
    """What ComfyUI hands to its tokenizer, made by transformers 5."""
    from tokenizers import processors
    from transformers.integrations.mistral import MistralConverter

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tekken.json"
        path.write_bytes(stored.numpy().tobytes())
        converter = MistralConverter(str(path))
    converter.pattern = CUT
    engine = converter.converted()
    engine.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return {"tokenizer_object": engine}


class Ready:
    """A tokenizer that is made already, where ComfyUI asks for a folder."""

    @staticmethod
    def from_pretrained(path: str, **parts: Any) -> Any:
        from transformers import PreTrainedTokenizerFast

        return PreTrainedTokenizerFast(**parts)
