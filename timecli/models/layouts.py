"""The table of tensor names: where a family of models reads text, and where its text encoders are.

A family is a row of streams, and its text encoders. A stream is what a network is given of a prompt, a sequence of
states or one vector, with the linear maps that read it, each in the two spellings that files use: that of single files
(latent diffusion, LDM), and that of diffusers. What a file is follows from the names and shapes that it has.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from timecli.errors import CheckpointError

Shapes = Mapping[str, tuple[int, ...]]

LDM, DIFFUSERS = 0, 1
TEXT, POOLED = "text", "pooled"
"""The streams: the states of all positions, and one vector for the whole prompt."""
ENTRY = "in"
"""The kind of a map that is no key and no value of cross-attention."""
UNET_PREFIXES = (("model.diffusion_model.", LDM), ("", LDM), ("", DIFFUSERS))
"""How a UNet's names begin: in a whole single file, in a file with the UNet alone, and in diffusers' files."""
EMA_PREFIXES = ("model_ema.diffusion_model", "model_ema.")
"""How the name of a weight's moving average begins; the block's name follows without its dots."""

HF_MARK, OPENCLIP_MARK = "embeddings.token_embedding.weight", "token_embedding.weight"
"""The tensor that every text encoder has, in transformers' and in OpenCLIP's names."""

SD_BLOCKS = (
    # LDM, diffusers, transformer blocks: the 16 cross-attention layers of SD 1 and SD 2, from the input to the output
    ("input_blocks.1.1", "down_blocks.0.attentions.0", 1),
    ("input_blocks.2.1", "down_blocks.0.attentions.1", 1),
    ("input_blocks.4.1", "down_blocks.1.attentions.0", 1),
    ("input_blocks.5.1", "down_blocks.1.attentions.1", 1),
    ("input_blocks.7.1", "down_blocks.2.attentions.0", 1),
    ("input_blocks.8.1", "down_blocks.2.attentions.1", 1),
    ("middle_block.1", "mid_block.attentions.0", 1),
    ("output_blocks.3.1", "up_blocks.1.attentions.0", 1),
    ("output_blocks.4.1", "up_blocks.1.attentions.1", 1),
    ("output_blocks.5.1", "up_blocks.1.attentions.2", 1),
    ("output_blocks.6.1", "up_blocks.2.attentions.0", 1),
    ("output_blocks.7.1", "up_blocks.2.attentions.1", 1),
    ("output_blocks.8.1", "up_blocks.2.attentions.2", 1),
    ("output_blocks.9.1", "up_blocks.3.attentions.0", 1),
    ("output_blocks.10.1", "up_blocks.3.attentions.1", 1),
    ("output_blocks.11.1", "up_blocks.3.attentions.2", 1),
)
SDXL_BLOCKS = (
    ("input_blocks.4.1", "down_blocks.1.attentions.0", 2),
    ("input_blocks.5.1", "down_blocks.1.attentions.1", 2),
    ("input_blocks.7.1", "down_blocks.2.attentions.0", 10),
    ("input_blocks.8.1", "down_blocks.2.attentions.1", 10),
    ("middle_block.1", "mid_block.attentions.0", 10),
    ("output_blocks.0.1", "up_blocks.0.attentions.0", 10),
    ("output_blocks.1.1", "up_blocks.0.attentions.1", 10),
    ("output_blocks.2.1", "up_blocks.0.attentions.2", 10),
    ("output_blocks.3.1", "up_blocks.1.attentions.0", 2),
    ("output_blocks.4.1", "up_blocks.1.attentions.1", 2),
    ("output_blocks.5.1", "up_blocks.1.attentions.2", 2),
)


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


@dataclass(frozen=True)
class Family:
    """A kind of model.

    Attributes:
        name: how people call it.
        short: how metadata calls it (Stability AI's ModelSpec).
        matrices: the maps that read text, from the input to the output.
        towers: the text encoders, in the order in which their states stand side by side.
        kohya: the spelling of the block names in kohya's LoRAs.
    """

    name: str
    short: str
    matrices: tuple[Matrix, ...]
    towers: tuple[Tower, ...]
    kohya: int = DIFFUSERS

    @property
    def streams(self) -> tuple[str, ...]:
        """What the network is given of a prompt."""
        return tuple(dict.fromkeys(matrix.stream for matrix in self.matrices))


def _matrices(blocks: tuple[tuple[str, str, int], ...]) -> tuple[Matrix, ...]:
    layers = [(ldm, diffusers, depth) for ldm, diffusers, count in blocks for depth in range(count)]
    return tuple(
        Matrix(i, kind, (_name(ldm, depth, kind), _name(diffusers, depth, kind)))
        for i, (ldm, diffusers, depth) in enumerate(layers)
        for kind in "kv"
    )


def _name(block: str, depth: int, kind: str) -> str:
    return f"{block}.transformer_blocks.{depth}.attn2.to_{kind}.weight"


SD1 = Family(
    "Stable Diffusion 1.x",
    "stable-diffusion-v1",
    _matrices(SD_BLOCKS),
    # Files made by some tools lack `text_model.`.
    (
        Tower(
            "text_encoder",
            "CLIP ViT-L",
            768,
            ("cond_stage_model.transformer.text_model.", "cond_stage_model.transformer."),
        ),
    ),
)
SD2 = Family(
    "Stable Diffusion 2.x",
    "stable-diffusion-v2",
    SD1.matrices,
    (
        Tower(
            "text_encoder",
            "OpenCLIP ViT-H",
            1024,
            ("cond_stage_model.model.", "conditioner.embedders.0.model."),
            openclip=True,
            padding=0,
            blocks=23,  # of 24; a file that was converted back from diffusers has no more than these
        ),
    ),
)
SDXL = Family(
    "Stable Diffusion XL",
    "stable-diffusion-xl-v1-base",
    (
        *_matrices(SDXL_BLOCKS),
        Matrix(0, ENTRY, ("label_emb.0.0.weight", "add_embedding.linear_1.weight"), POOLED, leading=True),
    ),
    (
        Tower(
            "text_encoder", "CLIP ViT-L", 768, ("conditioner.embedders.0.transformer.text_model.",), penultimate=True
        ),
        Tower(
            "text_encoder_2",
            "OpenCLIP ViT-bigG",
            1280,
            ("conditioner.embedders.1.model.",),
            openclip=True,
            penultimate=True,
            padding=0,
            pooled=True,
        ),
    ),
    kohya=LDM,
)
SD2_WIDTH = 1024
"""Text width of SD 2, whose UNet has the names of SD 1."""

FOREIGN = {
    # the end of a tensor's name that only this kind of model has -> what it is
    "input_blocks.4.1.transformer_blocks.3.attn2.to_k.weight": "an SDXL refiner",
    "down_blocks.1.attentions.0.transformer_blocks.3.attn2.to_k.weight": "an SDXL refiner",
    "joint_blocks.0.context_block.attn.qkv.weight": "Stable Diffusion 3",
    "transformer_blocks.0.attn.add_k_proj.weight": "Stable Diffusion 3 or FLUX",
    "double_blocks.0.img_attn.qkv.weight": "FLUX",
    ".lora_up.weight": "a LoRA, not a model",
    ".lora_B.weight": "a LoRA, not a model",
    "_attn2_to_k.diff": "a LoRA, not a model",
}


def find(shapes: Shapes, where: str) -> tuple[Family, str, int]:
    """What a UNet with tensors of these names and shapes is: family, prefix of its names, spelling.

    Raises:
        CheckpointError: it is another kind of model, or not complete; the sentence says which and what is missing.
    """
    for mark, kind in FOREIGN.items():
        if any(name.endswith(mark) for name in shapes):
            raise CheckpointError(
                f"{where} is {kind}, which has no edit of this kind here; use an SD 1.x, SD 2.x or SDXL base model."
            )
    tried = [(family, prefix, spelling) for prefix, spelling in UNET_PREFIXES for family in (SDXL, SD1)]
    family, prefix, spelling = min(tried, key=lambda row: len(_missing(shapes, *row)))
    missing = _missing(shapes, family, prefix, spelling)
    if len(missing) == len(family.matrices):
        raise CheckpointError(
            f"{where} has no cross-attention matrices ({missing[0]} and {len(missing) - 1} more are missing); "
            "use an SD 1.x, SD 2.x or SDXL base model."
        )
    if missing:
        raise CheckpointError(
            f"{where} has {len(family.matrices) - len(missing)} of the {len(family.matrices)} cross-attention matrices "
            f"of {family.name} ({missing[0]} is missing); the file is incomplete, or another kind of model."
        )
    width = shapes[prefix + family.matrices[0].names[spelling]][-1]
    openclip = any(prefix + OPENCLIP_MARK in shapes for tower in SD2.towers for prefix in tower.prefixes)
    if family is SD1 and (width == SD2_WIDTH or openclip):
        family = SD2
    return family, prefix, spelling


def _missing(shapes: Shapes, family: Family, prefix: str, spelling: int) -> list[str]:
    """Matrices that are not there; of two names that both begin right, a matrix has two dimensions."""
    names = [prefix + matrix.names[spelling] for matrix in family.matrices]
    return [name for name in names if len(shapes.get(name, ())) != 2]


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


def twins(matrix: Matrix) -> tuple[str, ...]:
    """Names that the matrix's moving average can have in a single file."""
    return tuple(prefix + matrix.names[LDM].replace(".", "") for prefix in EMA_PREFIXES)


def tower_prefix(names: Collection[str], tower: Tower) -> str | None:
    """What stands before a text encoder's tensor names in a single file; None where it has no such text encoder."""
    mark = OPENCLIP_MARK if tower.openclip else HF_MARK
    return next((prefix for prefix in tower.prefixes if prefix + mark in names), None)
