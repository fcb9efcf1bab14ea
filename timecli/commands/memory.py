"""Whether there is memory for a model's text encoders."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from timecli.errors import TimecliError

if TYPE_CHECKING:
    from timecli.models.checkpoint import Checkpoint

REST = 2 * 2**30
"""Bytes that are needed beside the largest text encoder's weights: for libraries, states, and one tensor twice."""
GB = 1e9


def available() -> int | None:
    """Bytes that are free or can be made free; all that there are where the system does not tell; None for unknown."""
    about = Path("/proc/meminfo")
    if about.exists() and (found := re.search(r"MemAvailable:\s*(\d+) kB", about.read_text())):
        return int(found[1]) * 1024
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def require_room(checkpoint: Checkpoint) -> None:
    """Refuse to read prompts with text encoders that memory does not hold, before anything is loaded.

    Weights are mapped from their files, and one text encoder works at a time: the system can put the others aside.
    """
    needed, room = max((text.size for text in checkpoint.encoders), default=0) + REST, available()
    if checkpoint.encoders and room is not None and needed > room:
        parts = " and ".join(f"{text.tower.name} {text.size / GB:.1f} GB" for text in checkpoint.encoders)
        raise TimecliError(
            f"{checkpoint.path} needs {needed / GB:.1f} GB of memory to read prompts ({parts}) and {room / GB:.1f} GB "
            "are available; close other programs, or compile a delta on a larger machine with --delta and use "
            "`timecli apply` here, which needs no text encoder."
        )
