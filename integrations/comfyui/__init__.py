"""ComfyUI node "Apply timecli delta": copy this folder into ComfyUI's `custom_nodes`, and deltas into `models/timecli`.

It edits the conditioning and touches no weight, so that GGUF, NF4 and fp8 models take it, and unplugging it undoes it.
"""

from __future__ import annotations

import os
from typing import Any

import folder_paths

from .conditioning import edited, read

FOLDER = "timecli"
folder_paths.add_model_folder_path(FOLDER, os.path.join(folder_paths.models_dir, FOLDER))


class ApplyDelta:
    """CONDITIONING in, the same with an edit out."""

    CATEGORY = "conditioning"
    DESCRIPTION = (
        "The edit of a timecli delta, made on the conditioning: put one behind the positive prompt and one behind the "
        "negative, and it is the edit of the weights."
    )
    RETURN_TYPES = ("CONDITIONING",)
    FUNCTION = "apply"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """What the node is given; the deltas are the files in `models/timecli`."""
        strength = {"default": 1.0, "min": -1.0, "max": 2.0, "step": 0.05, "round": 0.001, "display": "slider"}
        return {
            "required": {
                "conditioning": ("CONDITIONING",),
                "delta": (folder_paths.get_filename_list(FOLDER), {"tooltip": "a file in models/timecli"}),
                "strength": ("FLOAT", {**strength, "tooltip": "1 is the edit, 0 none, less than 0 the other way"}),
            }
        }

    @classmethod
    def IS_CHANGED(cls, delta: str, **others: Any) -> float:
        """A delta that was compiled anew is read anew."""
        return os.path.getmtime(folder_paths.get_full_path_or_raise(FOLDER, delta))

    def apply(self, conditioning: list[Any], delta: str, strength: float) -> tuple[list[Any]]:
        """The edited conditioning."""
        return (edited(conditioning, read(folder_paths.get_full_path_or_raise(FOLDER, delta)), strength),)


NODE_CLASS_MAPPINGS = {"TimecliApplyDelta": ApplyDelta}
NODE_DISPLAY_NAME_MAPPINGS = {"TimecliApplyDelta": "Apply timecli delta"}
