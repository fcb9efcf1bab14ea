"""What a model's text is read with in a folder of ComfyUI.

Text encoders are told by their tensors, since they can have any name. Their configs follow from the shapes, and their
tokenizers lie beside ComfyUI's code, of which nothing is run. Both are written as a diffusers folder without weights.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from timecli.errors import CheckpointError, one_line
from timecli.files.code import INDEX
from timecli.files.foreign import read, read_config
from timecli.files.quantised import is_read
from timecli.files.safefile import SafeFile, open_file
from timecli.models import configs, encoders, layouts, listed, tekken, towers
from timecli.models.checkpoint import Checkpoint
from timecli.models.streams import POOLED, TEXT, Tower, tokenizer_of

PROGRAM = "ComfyUI"
LEAST = {layouts.SD3.name: 77, layouts.FLUX1.name: 256, layouts.CHROMA.name: 1, layouts.FLUX2_DEV.name: 1}
"""How many positions ComfyUI fills the text up to (`min_length` of its tokenizers in 0.3.64 and 0.8.0); a longer prompt
has more. In all else its states are those of diffusers, as they are in the families that are not here."""
UNPADDED = tuple(name for name, least in LEAST.items() if least == 1)
"""Families that ComfyUI gives a prompt alone, and diffusers a prompt with padding."""
COMPARED = (*LEAST, layouts.QWEN_IMAGE.name, layouts.Z_IMAGE.name)
"""Families whose text pipelines of diffusers make, and ComfyUI in the same way but for `LEAST`."""
CLIP_WORDS = "comfy/sd1_tokenizer"
WORDS = {
    # where ComfyUI has the tokenizer, by the class of a text encoder; that of CLIP for the others
    layouts.T5.model: "comfy/text_encoders/t5_tokenizer",
    layouts.QWEN_VL.model: "comfy/text_encoders/qwen25_tokenizer",
    layouts.QWEN3_4B.model: "comfy/text_encoders/qwen25_tokenizer",
    layouts.MISTRAL.model: tekken.TENSOR,  # inside the text encoder's file
}
TEMPLATES = {
    # what ComfyUI puts around a prompt, in place of a tokenizer's own template
    layouts.QWEN3_4B.model: "<|im_start|>user\n{{ messages[0].content }}<|im_end|>\n<|im_start|>assistant{{ '\n' }}",
    layouts.MISTRAL.model: (
        "<s>[SYSTEM_PROMPT]{{ messages[0].content[0].text }}[/SYSTEM_PROMPT]"
        "[INST]{{ messages[1].content[0].text }}[/INST]"
    ),
}
SIDE_BY_SIDE = {layouts.MISTRAL.model: 3}
"""Of how many layers a network is given the states, one beside the other."""
CONFIG, MAP = "tokenizer_config.json", "special_tokens_map.json"
DATA = ("tokenizer.json", "vocab.json", "merges.txt", "added_tokens.json", MAP)
"""What a tokenizer is read from, beside its config."""
ZERO = "!"
"""Token 0 of CLIP, with which the text of OpenCLIP is filled up."""
RELEASED = {
    # how many layers a text encoder has, and where users of ComfyUI get it
    layouts.CLIP.name: (12, "comfyanonymous/flux_text_encoders"),
    layouts.T5.name: (24, "comfyanonymous/flux_text_encoders"),
    layouts.CLIP_G.name: (32, "Comfy-Org/stable-diffusion-3.5-fp8"),
    layouts.OPENCLIP_H.name: (24, "stabilityai/stable-diffusion-2-1"),
    layouts.QWEN_VL.name: (28, "Comfy-Org/Qwen-Image_ComfyUI"),
    layouts.QWEN3_4B.name: (36, "Comfy-Org/z_image_turbo"),
    layouts.MISTRAL.name: (30, "Comfy-Org/flux2-dev"),
}


@dataclass(frozen=True)
class Taken:
    """A text encoder in ComfyUI's folder.

    Attributes:
        tower: in whose place it stands.
        path: its file.
        others: files that would do, too, the next best first.
    """

    tower: Tower
    path: Path
    others: tuple[Path, ...]

    @property
    def sentence(self) -> str:
        """Which file was taken."""
        named = (one.name if one.name != self.path.name else str(one) for one in self.others)
        others = f", not {' or '.join(named)}" if self.others else ""
        return f"{self.tower.name} is {self.path}{others}"


def text_encoders(home: Path, model: Checkpoint, given: Sequence[Path]) -> list[Taken]:
    """The text encoders that a model reads, and that neither it nor what was given has.

    Args:
        home: ComfyUI's folder.
        model: opened without text encoders.
        given: text encoders that the user names.

    Raises:
        CheckpointError: there is none for one of them, or ComfyUI's text of this kind of model is not known here.
    """
    family, files = model.family, model.copies[0].files
    if not family.by_pipeline:
        missing = towers.missing(family, model.path, files, given)
    elif family.name not in COMPARED:
        raise CheckpointError(
            f"{model.path} is {family.name}, and how ComfyUI makes its text is not known here; give --config and "
            "--text-encoder in place of --comfyui."
        )
    else:
        sources, widths = _sources(model, given), _widths(model)
        missing = [one for one in family.towers if not any(_config(one, files, widths) for files in sources)]
        if len(missing) < len(family.towers) and not given:  # what a checkpoint brings is what it is drawn with
            missing = [one for one in missing if not one.optional]
    opened, unread = _opened(home) if missing else ([], [])
    chosen = [(tower, _fitting(opened, tower, model)) for tower in missing]
    for tower, found in chosen:
        if not found and not tower.optional:
            layers, source = RELEASED[tower.name]
            needed = f"{tower.name} ({_widths(model)[tower.folder]} wide, {layers} layers)"
            raise CheckpointError(
                f"{model.path} is {family.name}, which reads {needed}, and no file in {' and '.join(listed.TEXTS)} of "
                f"{home / 'models'} has its tensors{''.join(f' ({sentence})' for sentence in unread[:1])}; put one "
                f"there (huggingface.co/{source} has it), or give it with --text-encoder."
            )
    return [Taken(tower, found[0].path, tuple(one.path for one in found[1:])) for tower, found in chosen if found]


def write_configs(home: Path, model: Checkpoint, texts: Sequence[Path], folder: Path) -> None:
    """Write what a diffusers folder has beside weights: the list of parts, configs of text encoders, tokenizers.

    Args:
        home: ComfyUI's folder.
        model: a diffusion transformer, opened without text encoders.
        texts: its text encoders, where they are not inside.
        folder: an empty one.

    Raises:
        CheckpointError: ComfyUI's folder lacks a tokenizer.
    """
    index: dict[str, Any] = {"_class_name": model.family.pipeline}
    sources, widths = _sources(model, texts), _widths(model)
    for tower in model.family.towers:
        found = next(((one, files) for files in sources if (one := _config(tower, files, widths))), None)
        if found is None:
            continue
        config, files = found
        words = folder / tokenizer_of(tower.folder)
        index[tower.folder] = ["transformers", tower.model]
        (folder / tower.folder).mkdir()
        words.mkdir()
        (folder / tower.folder / "config.json").write_text(json.dumps(config))
        if (place := WORDS.get(tower.model, CLIP_WORDS)) == tekken.TENSOR:
            _unpack_tokenizer(files, tower, words)
        else:
            _copy_tokenizer(home / place, tower, words)
    (folder / INDEX).write_text(json.dumps(index))


def _copy_tokenizer(source: Path, tower: Tower, target: Path) -> None:
    if not (source / CONFIG).exists():
        raise CheckpointError(
            f"{source / CONFIG} does not exist, and {tower.name} needs its tokenizer; --comfyui takes the whole folder "
            "of ComfyUI, with its main.py."
        )
    filled = tower.name == layouts.CLIP_G.name
    about = read_config(source / CONFIG) | ({"pad_token": ZERO} if filled else {})
    about |= {"chat_template": TEMPLATES[tower.model]} if tower.model in TEMPLATES else {}
    (target / CONFIG).write_text(json.dumps(about))
    for name in DATA:
        if (source / name).exists() and not (filled and name == MAP):
            (target / name).write_bytes(read(source / name, CheckpointError))


def _unpack_tokenizer(files: Sequence[SafeFile], tower: Tower, target: Path) -> None:
    """Write the tokenizer that a text encoder's file holds."""
    file = next((file for file in files if tekken.TENSOR in file.entries), None)
    if file is None:
        raise CheckpointError(
            f"{files[0].path} has no {tekken.TENSOR}, in which ComfyUI's file of {tower.name} holds its tokenizer; use "
            f"that file (huggingface.co/{RELEASED[tower.name][1]} has it)."
        )
    try:
        words = tekken.tokenizer(b"".join(file.content(tekken.TENSOR)))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(
            f"{file.path}: {tekken.TENSOR} is no tokenizer of Mistral's ({one_line(error)}); use another copy."
        ) from error
    about = {
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": tekken.START, "pad_token": tekken.PAD,
        "padding_side": "left", "chat_template": TEMPLATES[tower.model],
    }  # fmt: skip
    (target / CONFIG).write_text(json.dumps(about))
    (target / DATA[0]).write_text(json.dumps(words))


def _sources(model: Checkpoint, given: Sequence[Path]) -> list[tuple[SafeFile, ...]]:
    """Where text encoders may be: what was given, and the model."""
    return [*(one for path in given for one in encoders.sources(path, model.family)), model.copies[0].files]


def _widths(model: Checkpoint) -> dict[str, int]:
    """How wide each text encoder is: as the network's maps say, or of two CLIPs as wide as the released ones."""
    family = model.family
    clips = [one for one in family.towers if one.model not in WORDS]
    of_clip = model.width_of(POOLED if POOLED in family.streams and family.by_pipeline else TEXT)
    return {
        one.folder: (one.width if len(clips) > 1 else of_clip)
        if one in clips
        else model.width // SIDE_BY_SIDE.get(one.model, 1)
        for one in family.towers
    }


def _config(tower: Tower, files: Sequence[SafeFile], widths: dict[str, int]) -> dict[str, Any] | None:
    """The config of a text encoder in some files; None where they have no other, or one of another width."""
    shapes = {name: tuple(entry["shape"]) for file in files for name, entry in file.entries.items()}
    for prefix in (*tower.prefixes, ""):
        own = {name.removeprefix(prefix): shape for name, shape in shapes.items() if name.startswith(prefix)}
        config = configs.of_tower(tower, own)
        if config and configs.width(config) == widths[tower.folder]:
            return config
    return None


def _fitting(opened: Sequence[SafeFile], tower: Tower, model: Checkpoint) -> list[SafeFile]:
    """The files that can stand in a text encoder's place, the best first."""
    widths = _widths(model)
    found = [
        file
        for file in opened
        if (_config(tower, (file,), widths) if tower.model else towers.fits(tower, file, widths[tower.folder]))
    ]
    return sorted(found, key=_rank)


def _rank(file: SafeFile) -> tuple[bool, float, int, str]:
    """What can be read before what cannot, those of more bytes first, then short names, which have no suffix."""
    numbers = sum(math.prod(entry["shape"]) for entry in file.entries.values())
    size = sum(stop - start for start, stop in (entry["data_offsets"] for entry in file.entries.values()))
    return not is_read(file), -round(size / numbers, 1), len(file.path.name), str(file.path)


def _opened(home: Path) -> tuple[list[SafeFile], list[str]]:
    """The files in ComfyUI's folders of text encoders, and what is wrong with those that cannot be read."""
    found: dict[Path, SafeFile] = {}
    wrong = []
    for path in sorted(listed.text_encoders(home), key=lambda path: path.suffix not in listed.READ):
        try:
            found.setdefault(path.resolve(), open_file(path))
        except CheckpointError as error:
            wrong.append(str(error).rstrip("."))
    return list(found.values()), wrong
