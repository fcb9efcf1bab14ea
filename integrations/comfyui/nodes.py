"""The nodes: what they are given, what they give back, and what they say below themselves."""

from __future__ import annotations

import os
import re
from typing import Any

import folder_paths

from . import package
from .conditioning import edited, read

FOLDER = "timecli"
STRENGTH = {
    "default": 1.0, "min": -1.0, "max": 2.0, "step": 0.05, "round": 0.001, "display": "slider",
    "tooltip": "1 is the edit, 0 none, less than 0 the other way",
}  # fmt: skip
folder_paths.add_model_folder_path(FOLDER, os.path.join(folder_paths.models_dir, FOLDER))


def _place(delta: str) -> str:
    path: str = folder_paths.get_full_path_or_raise(FOLDER, delta)
    return path


class OfDelta:
    """A node that is given a delta, and what it edits.

    Attributes:
        GIVEN: ComfyUI's name for that.
    """

    GIVEN: str

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """What the node is given; the deltas are the files in `models/timecli`."""
        delta = (folder_paths.get_filename_list(FOLDER), {"tooltip": "a file in models/timecli"})
        return {"required": {cls.GIVEN.lower(): (cls.GIVEN,), "delta": delta, "strength": ("FLOAT", STRENGTH)}}

    @classmethod
    def IS_CHANGED(cls, delta: str | None = None, **others: Any) -> float:
        """A delta that was compiled anew is read anew, unless another node gives its name, which is not known yet."""
        return os.path.getmtime(_place(delta)) if delta else 0.0


class ApplyDelta(OfDelta):
    """CONDITIONING in, the same with an edit out."""

    CATEGORY = "conditioning"
    DESCRIPTION = (
        "The edit of a timecli delta, made on the conditioning: put one behind the positive prompt and one behind the "
        "negative, and it is the edit of the weights."
    )
    GIVEN = "CONDITIONING"
    RETURN_TYPES = ("CONDITIONING",)
    FUNCTION = "apply"

    def apply(self, conditioning: list[Any], delta: str, strength: float) -> tuple[list[Any]]:
        """The edited conditioning."""
        return (edited(conditioning, read(_place(delta)), strength),)


class EditAssumption:
    """MODEL and CLIP in, the MODEL with an edit out."""

    CATEGORY = "timecli"
    DESCRIPTION = (
        "Changes what a model assumes. One edit a line: a rose -> a blue rose, perhaps with a strength behind it: 0.5. "
        "A line = a red rose stays as it is. Or the path of a timecli manifest, which ends in .toml."
    )
    RETURN_TYPES = ("MODEL", "TIMECLI_EDIT")
    RETURN_NAMES = ("model", "edit")
    FUNCTION = "edit"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """What the node is given."""
        text = {"multiline": True, "default": "a rose -> a blue rose", "tooltip": cls.DESCRIPTION}
        return {
            "required": {
                "model": ("MODEL",),
                "clip": ("CLIP", {"tooltip": "the CLIP that the prompts are encoded with"}),
                "text": ("STRING", text),
                "strength": ("FLOAT", STRENGTH),
            },
            "hidden": {"node": "UNIQUE_ID"},
        }

    @classmethod
    def IS_CHANGED(cls, text: str | None = None, **others: Any) -> str:
        """A manifest that was written anew is read anew, unless another node gives its path, which is not known yet."""
        try:
            from . import asking
        except ImportError:  # the node says what is missing
            return ""
        return asking.written(text or "")

    def edit(self, model: Any, clip: Any, text: str, strength: float, node: str | None = None) -> tuple[Any, Any]:
        """The edited MODEL, and the edit for the node that saves it."""
        package.require()
        from . import network, solving

        solved = solving.solved(model, clip, text)
        solving.tell(solved.sentence, node)
        return network.patched(model, solved.delta, strength), solved.delta


class ApplyToModel(OfDelta):
    """MODEL and a delta in, the MODEL with the edit out."""

    CATEGORY = "timecli"
    DESCRIPTION = "The edit of a timecli delta, as a patch of the MODEL: all prompts read it, and one node is enough."
    GIVEN = "MODEL"
    RETURN_TYPES = ("MODEL", "TIMECLI_EDIT")
    RETURN_NAMES = ("model", "edit")
    FUNCTION = "apply"

    def apply(self, model: Any, delta: str, strength: float) -> tuple[Any, Any]:
        """The edited MODEL, and the edit."""
        package.require()
        from pathlib import Path

        from timecli.editing.delta import load_delta

        from . import network

        found = load_delta(Path(_place(delta)))
        return network.patched(model, found, strength), found


class SaveEdit:
    """An edit in, a delta file out, and a LoRA for the MODEL if one is connected."""

    CATEGORY = "timecli"
    DESCRIPTION = (
        "Writes an edit at strength 1 into models/timecli, for git and for the node 'Apply a delta'; with a MODEL, and "
        "where it is asked for, a LoRA of it into models/loras, too. A file that is there is never replaced."
    )
    RETURN_TYPES = ()
    FUNCTION = "save"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """What the node is given."""
        model = {"tooltip": "the MODEL that the LoRA is for; only the LoRA needs it"}
        return {
            "required": {
                "edit": ("TIMECLI_EDIT",),
                "name": ("STRING", {"default": "edit", "tooltip": "of the files, without an ending"}),
                "lora": ("BOOLEAN", {"default": False}),
            },
            "optional": {"model": ("MODEL", model)},
        }

    def save(self, edit: Any, name: str, lora: bool, model: Any = None) -> dict[str, Any]:
        """What was written, for the page to show."""
        package.require()
        from . import saving

        name = name.removesuffix(".delta")
        if not re.fullmatch(r"[\w][\w .+-]{0,99}", name):
            raise ValueError(f"{name[:100]!r} is no name of a file; use letters, digits, blanks, and . + - _")
        if lora and model is None:
            raise ValueError("a LoRA is for one model; connect the MODEL, or switch lora off.")
        place = os.path.join(folder_paths.get_folder_paths(FOLDER)[0], f"{name}.delta")
        beside = os.path.join(folder_paths.get_folder_paths("loras")[0], f"{name}.safetensors") if lora else ""
        return {"ui": {"text": [f"written: {path}" for path in saving.save(edit, place, beside, model)]}}
