"""timecli's nodes for ComfyUI: edits of what a model assumes, made on the MODEL or on the conditioning.

The names under which nodes are registered never change: saved workflows have them.
"""

from __future__ import annotations

from .nodes import ApplyDelta, ApplyToModel, EditAssumption, SaveEdit

NODE_CLASS_MAPPINGS = {
    "TimecliApplyDelta": ApplyDelta,
    "TimecliEditAssumption": EditAssumption,
    "TimecliApplyDeltaToModel": ApplyToModel,
    "TimecliSaveEdit": SaveEdit,
}
NODE_DISPLAY_NAME_MAPPINGS = {
    "TimecliApplyDelta": "Apply timecli delta",
    "TimecliEditAssumption": "Edit an assumption",
    "TimecliApplyDeltaToModel": "Apply a delta",
    "TimecliSaveEdit": "Save the edit",
}
