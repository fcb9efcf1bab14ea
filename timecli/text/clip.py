"""CLIP's text tower (Radford et al. 2021): token ids to states, by plain functions on the tower's tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch.nn import functional

Activation = Callable[[torch.Tensor], torch.Tensor]


def quick_gelu(x: torch.Tensor) -> torch.Tensor:
    """OpenAI's approximation of GELU, x σ(1.702 x)."""
    return x * torch.sigmoid(1.702 * x)


ACTIVATIONS: dict[str, Activation] = {"quick_gelu": quick_gelu, "gelu": functional.gelu}
"""OpenAI's and OpenCLIP's, by the names that configs have for them."""


@dataclass(frozen=True)
class TextTower:
    """A text tower.

    Attributes:
        weights: float32, by the names of transformers' `CLIPTextModel`; of the layers that the text goes through.
        heads: of every attention.
        activation: of every MLP, a key of `ACTIVATIONS`.
        epsilon: of every layer norm.
        depth: how many layers the states go through.
        normed: whether the final norm follows; SDXL's UNet is given the states before it.
        layers: how many the pooled vector goes through; 0 where there is none.
    """

    weights: Mapping[str, torch.Tensor]
    heads: int
    activation: str
    epsilon: float
    depth: int
    normed: bool = True
    layers: int = 0

    @property
    def width(self) -> int:
        """The d of the states."""
        return int(self.weights["embeddings.token_embedding.weight"].shape[1])

    @property
    def length(self) -> int:
        """The most positions that it reads."""
        return len(self.weights["embeddings.position_embedding.weight"])

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.weights["embeddings.token_embedding.weight"].device

    def states(self, ids: torch.Tensor) -> torch.Tensor:
        """States `[n, positions, d]` of token ids `[n, positions]`; none depends on a position behind its own."""
        x = self._through(range(self.depth), self._embedded(ids))
        return self._normed(x) if self.normed else x

    def pooled(self, ids: torch.Tensor, ends: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The states, and the projection `[n, p]` of the last layer's state at each prompt's end token."""
        x = self._through(range(self.depth), self._embedded(ids))
        last = self._normed(self._through(range(self.depth, self.layers), x))[torch.arange(len(ids)), ends]
        states = self._normed(x) if self.normed else x
        return states, functional.linear(last, self.weights["text_projection.weight"])

    def _embedded(self, ids: torch.Tensor) -> torch.Tensor:
        ids = ids.to(self.device)
        places = self.weights["embeddings.position_embedding.weight"][: ids.shape[1]]
        return self.weights["embeddings.token_embedding.weight"][ids] + places

    def _through(self, layers: Iterable[int], x: torch.Tensor) -> torch.Tensor:
        for number in layers:
            layer = f"encoder.layers.{number}."
            x = x + self._attention(f"{layer}self_attn.", self._norm(f"{layer}layer_norm1", x))
            x = x + self._mlp(f"{layer}mlp.", self._norm(f"{layer}layer_norm2", x))
        return x

    def _normed(self, x: torch.Tensor) -> torch.Tensor:
        return self._norm("final_layer_norm", x)

    def _attention(self, name: str, x: torch.Tensor) -> torch.Tensor:
        q, k, v = (
            self._linear(f"{name}{part}_proj", x).view(*x.shape[:2], self.heads, -1).transpose(1, 2) for part in "qkv"
        )
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self._linear(f"{name}out_proj", mixed.transpose(1, 2).flatten(2))

    def _mlp(self, name: str, x: torch.Tensor) -> torch.Tensor:
        return self._linear(f"{name}fc2", ACTIVATIONS[self.activation](self._linear(f"{name}fc1", x)))

    def _linear(self, name: str, x: torch.Tensor) -> torch.Tensor:
        return functional.linear(x, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"])

    def _norm(self, name: str, x: torch.Tensor) -> torch.Tensor:
        weight, bias = self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
        return functional.layer_norm(x, (self.width,), weight, bias, self.epsilon)


def shapes(sizes: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
    """Every tensor of a tower and its shape, from its sizes by the names that a config has for them."""
    width, inner = sizes["hidden_size"], sizes["intermediate_size"]
    found: dict[str, tuple[int, ...]] = {
        "embeddings.token_embedding.weight": (sizes["vocab_size"], width),
        "embeddings.position_embedding.weight": (sizes["max_position_embeddings"], width),
    }
    parts: dict[str, tuple[int, ...]] = {
        f"self_attn.{part}": (width, width) for part in ("q_proj", "k_proj", "v_proj", "out_proj")
    }
    parts |= {"mlp.fc1": (inner, width), "mlp.fc2": (width, inner), "layer_norm1": (width,), "layer_norm2": (width,)}
    layers = range(sizes["num_hidden_layers"])
    modules = {f"encoder.layers.{number}.{part}": shape for number in layers for part, shape in parts.items()}
    for name, shape in {**modules, "final_layer_norm": (width,)}.items():
        found |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    return found
