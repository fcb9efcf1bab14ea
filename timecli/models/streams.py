"""What the table of tensor names is made of: maps that read text, text encoders, and families of models.

A stream is what a network is given of a prompt, a sequence of states or one vector, with the linear maps that read it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

LDM, DIFFUSERS = 0, 1
TEXT, POOLED = "text", "pooled"
"""The streams: the states of all positions, and one vector for the whole prompt."""
GIVE = "give its text encoder in {} with --text-encoder"
"""What to do about a text encoder whose weights are quantised."""
MASK = "mask"
"""Among what `encode_prompt` returns: which positions are looked at."""
ENTRY = "in"
"""The kind of a map that is no key and no value of cross-attention."""


@dataclass(frozen=True)
class Matrix:
    """A linear map that reads text.

    Attributes:
        layer: of cross-attention, counted from the input; 0 of an entry.
        kind: "k" or "v" of cross-attention, or `ENTRY`.
        names: in the two spellings, without a prefix.
        stream: what it reads.
        leading: whether the text meets its first columns only, and something else the others.
    """

    layer: int
    kind: str
    names: tuple[str, str]
    stream: str = TEXT
    leading: bool = False


@dataclass(frozen=True)
class Tower:
    """One text encoder of a family.

    Attributes:
        folder: its name in a diffusers folder.
        name: how people call it.
        width: the d of its states in the released models.
        prefixes: what stands before its tensors' names in a single file, the usual prefix first.
        openclip: whether a single file has OpenCLIP's names, not transformers'.
        penultimate: whether the UNet sees the states before the last layer, without the final norm.
        padding: token id of the padding; None for the end token.
        blocks: how many of OpenCLIP's blocks a single file's text goes through; None for all that it has.
        pooled: whether the network is given its projection of the end token, too.
        model: the class of transformers that it is; empty for CLIP's text tower, which is read here.
        inner: what transformers has before the names of its text, and a file with the text alone has not.
        layers: how many of a language model's layers the text goes through, or without how many of its last (below 0),
            neither with the norm behind them; 0 for all of it.
        identity: whether a missing projection of the end token is the identity.
        optional: whether the network is drawn without it, its states being zeros.
    """

    folder: str
    name: str
    width: int
    prefixes: tuple[str, ...]
    openclip: bool = False
    penultimate: bool = False
    padding: int | None = None
    blocks: int | None = None
    pooled: bool = False
    model: str = ""
    inner: str = ""
    layers: int = 0
    identity: bool = False
    optional: bool = False


@dataclass(frozen=True)
class Family:
    """A kind of model.

    Attributes:
        name: how people call it.
        short: how metadata calls it (Stability AI's ModelSpec); empty where the tensors do not tell which of several
            models with the same names it is, as FLUX.1 dev and schnell are.
        matrices: the maps that read text, from the input to the output.
        towers: the text encoders, in the order in which their states stand side by side.
        pipeline: the class of diffusers that draws, and whose `encode_prompt` gives the streams.
        marks: tensors that only this family has, in the two spellings; empty where the maps tell it.
        outputs: where `encode_prompt` returns each stream, and the "mask" of the positions that are looked at.
        kohya: the spelling of the names in kohya's LoRAs.
        adapter: the form of a LoRA that the most programs load: "lora", with kohya's names, or "peft".
        sequence: the text encoders whose tokens stand one behind the other in the text.
        norm: the weight of the RMS norm before the map of the text, and its epsilon; None for no norm.
        kinds: families with the same names whose text encoders are others; a config tells which one a model is.
    """

    name: str
    short: str
    matrices: tuple[Matrix, ...]
    towers: tuple[Tower, ...]
    pipeline: str = "StableDiffusionPipeline"
    marks: tuple[str, ...] = ()
    outputs: tuple[tuple[str, int], ...] = ((TEXT, 0),)
    kohya: int = LDM
    adapter: str = "lora"
    sequence: tuple[str, ...] = ("text_encoder",)
    norm: tuple[str, float] | None = None
    kinds: tuple[Family, ...] = ()

    @property
    def by_pipeline(self) -> bool:
        """Whether its text is read by diffusers' `encode_prompt`, and not by CLIP's towers alone."""
        return bool(self.towers[0].model)

    @property
    def network(self) -> str:
        """The folder of the network in a diffusers folder."""
        return "transformer" if self.by_pipeline else "unet"

    @property
    def streams(self) -> tuple[str, ...]:
        """What the network is given of a prompt."""
        return tuple(dict.fromkeys(matrix.stream for matrix in self.matrices))


def tokenizer_of(encoder: str) -> str:
    """What diffusers calls the tokenizer of a text encoder, as part and as folder."""
    return encoder.replace("text_encoder", "tokenizer")


def of_stream(stream: str, name: str) -> str:
    """How a file calls a tensor that belongs to a stream: the text's has the plain name."""
    return name if stream == TEXT else f"{stream}.{name}"


def streams_of(names: Collection[str], name: str) -> list[str]:
    """The streams of which a file has a tensor of this name, the text first.

    Raises:
        KeyError: the text is not among them.
    """
    found = [stream for stream in (TEXT, POOLED) if of_stream(stream, name) in names]
    if TEXT not in found:
        raise KeyError(name)
    return found
