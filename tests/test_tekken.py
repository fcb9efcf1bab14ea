"""Mistral's tokenizer out of the file that ComfyUI keeps it in."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer

from timecli.models import tekken

from . import tekken as small
from .conftest import Run

TEXTS = [
    "",
    "a rose",
    "A blue rose, in the snow: 4k",
    "größer 12345  !!\n\n x",
    "🌹 バラ",
    "[INST] a rose[/INST]<s>",
    "rel",
]


@pytest.fixture(scope="module")
def known() -> Any:
    """What transformers' own converter makes of the same file, where a text is cut as ComfyUI cuts it."""
    return small.converted(small.tensor())["tokenizer_object"]


def test_tokens_are_those_of_transformers_converter(known: Any) -> None:
    made = Tokenizer.from_str(json.dumps(tekken.tokenizer(small.data())))
    one = random.Random(1)
    letters = [*map(chr, range(32, 127)), *"äß\n🌹バ"]
    texts = [*TEXTS, *("".join(one.choices([*letters, "a rose", " blue"], k=30)) for _ in range(200))]
    assert [made.encode(text).ids for text in texts] == [known.encode(text).ids for text in texts]
    assert made.get_vocab() == known.get_vocab() and " beyond" not in made.get_vocab(), "what text encoders know"
    assert made.encode("a rose").tokens == ["<s>", "a", "Ġrose"]
    assert made.encode("iPhone").tokens == ["<s>", "iPhone"], "which the file's own pattern cuts before the P"


MANIFEST = 'name = "x"\n[[edit]]\nsource = "a rose"\ndestination = "a blue rose"\n'


def wrong(**parts: Any) -> bytes:
    return json.dumps({**json.loads(small.data()), **parts}).encode()


@pytest.mark.parametrize(
    "stored",
    [
        b"\xff", b"{}", b"[" * 10**5, b"[]", wrong(vocab=None), wrong(special_tokens=[{"rank": 0}]), wrong(config=[]),
        wrong(special_tokens=[{"rank": 0, "token_str": "<unk>"}]), wrong(vocab=[{"rank": 0, "token_bytes": "?"}]),
        wrong(vocab=[{"rank": "0", "token_bytes": "AA=="}]), wrong(vocab=[{"rank": 0, "token_bytes": "A" * 10**4}]),
        None,
    ],
)  # fmt: skip
def test_what_is_no_tokenizer_is_one_sentence(stored: bytes | None, run: Run, tmp_path: Path) -> None:
    home = tmp_path / "ComfyUI"
    for place in ("diffusion_models", "text_encoders"):
        (home / "models" / place).mkdir(parents=True)
    network = {"txt_in.weight": torch.zeros(8, 15360), "double_stream_modulation_img.lin.weight": torch.zeros(4, 4)}
    save_file(network, home / "models" / "diffusion_models" / "net.safetensors")
    first = {"self_attn.q_proj": 128, "self_attn.k_proj": 128, "mlp.gate_proj": 8}
    text = {f"model.layers.0.{name}.weight": torch.zeros(rows, 1) for name, rows in first.items()}
    text |= {f"model.layers.{number}.input_layernorm.weight": torch.zeros(1) for number in range(30)}
    text |= {"model.embed_tokens.weight": torch.zeros(8, 5120)}
    text |= {} if stored is None else {tekken.TENSOR: torch.tensor(list(stored), dtype=torch.uint8)}
    save_file(text, home / "models" / "text_encoders" / "mistral.safetensors")
    (tmp_path / "m.toml").write_text(MANIFEST)
    done = run("edit", tmp_path / "m.toml", "net.safetensors", "--comfyui", home, "--delta", tmp_path / "d")
    said = done.err.splitlines()[-1]
    assert done.code == 2 and "Traceback" not in done.err, done.err
    if stored is None:
        done = run("verify", tmp_path / "m.toml", "net.safetensors", "--comfyui", home, "-o", tmp_path / "v")
        assert done.code == 2 and "is FLUX.2 dev, to which ComfyUI gives a prompt without the padding" in done.err
        assert "mistral.safetensors has no tekken_model, in which" in said and "Comfy-Org/flux2-dev has it" in said
    else:
        assert "mistral.safetensors: tekken_model is no tokenizer of Mistral's (" in said
