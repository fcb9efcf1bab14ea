"""An edit as files. What is there is not replaced, but for a file with the same bytes, which stays."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from timecli.editing.delta import Delta, save_delta
from timecli.errors import OutputError
from timecli.files.rewriting import write_tensors
from timecli.shipping import export, provenance

from . import network

Writer = Callable[[Path], Any]


def save(edit: Delta, path: str, lora: str = "", model: Any = None) -> list[str]:
    """Write a delta file, which `timecli` reads, and a LoRA if it has a path: both or none.

    Args:
        edit: what is written.
        path: of the delta.
        lora: of the LoRA; empty for none.
        model: the MODEL that the LoRA is for, as it was loaded, without its patches.

    Returns:
        The paths.

    Raises:
        DeltaError: the edit was made for another kind of model.
        OutputError: another file is there, or the system cannot write.
    """
    writers: dict[str, Writer] = {path: lambda place: save_delta(edit, place)}
    if lora:
        writers[lora] = _lora(edit, model)
    try:
        _written(writers)
    except OSError as error:
        raise OutputError(f"{error.filename or path} cannot be written: {error.strerror or error}.") from error
    return list(writers)


def _lora(edit: Delta, model: Any) -> Writer:
    maps = network.maps(model)
    network.require_fit(edit, maps)
    form, dtype = maps.family.adapter, torch.float16
    small, _ = export.smaller(edit, export.fitting(maps, edit, dtype), export.TOLERANCE)
    made = export.adapter(maps, edit, form, dtype, small)
    about = export.about(maps, small, form, [provenance.record(edit, made.base, made.made, 1.0)])
    return lambda place: write_tensors(place, made.tensors, about)


def _written(writers: dict[str, Writer]) -> None:
    """Put files where none is; raises OutputError where another one is."""
    with ExitStack() as stack:
        made = {}
        for path, write in writers.items():
            os.makedirs(os.path.dirname(path), exist_ok=True)
            folder = stack.enter_context(tempfile.TemporaryDirectory(dir=os.path.dirname(path)))
            made[path] = Path(folder) / os.path.basename(path)
            write(made[path])
        there = [path for path in made if os.path.lexists(path)]
        for path in there:
            if not os.path.isfile(path) or Path(path).read_bytes() != made[path].read_bytes():
                raise OutputError(f"{path} is there already, with something else in it; choose another name.")
        for path in made.keys() - there:
            os.rename(made[path], path)
