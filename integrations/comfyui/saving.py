"""An edit as files. What is there is not replaced, but for a file with the same bytes, which stays."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from timecli.editing.delta import Delta, save_delta
from timecli.errors import OutputError
from timecli.files.rewriting import write_tensors
from timecli.shipping import export, provenance

from . import network


def delta(edit: Delta, path: str) -> str:
    """Write a delta file, which `timecli` reads."""
    return _once(path, lambda place: save_delta(edit, place))


def lora(edit: Delta, model: Any, path: str) -> str:
    """Write the edit as a LoRA for a MODEL as it was loaded, without its patches."""
    maps = network.maps(model)
    form, dtype = maps.family.adapter, torch.float16
    small, _ = export.smaller(edit, export.fitting(maps, edit, dtype), export.TOLERANCE)
    made = export.adapter(maps, edit, form, dtype, small)
    about = export.about(maps, small, form, [provenance.record(edit, made.base, made.made, 1.0)])
    return _once(path, lambda place: write_tensors(place, made.tensors, about))


def _once(path: str, write: Callable[[Path], Any]) -> str:
    """Write a file that is not there; raises OutputError where another one is."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with tempfile.TemporaryDirectory(dir=os.path.dirname(path)) as folder:
        made = Path(folder) / os.path.basename(path)
        write(made)
        if os.path.exists(path):
            if Path(path).read_bytes() != made.read_bytes():
                raise OutputError(f"{path} is there already, with something else in it; choose another name.")
        else:
            os.rename(made, path)
    return path
