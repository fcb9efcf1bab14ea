"""Where results go: what is refused before any work is done, and what goes with an edited file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from timecli.commands import options, terminal
from timecli.commands.shared import given, settle
from timecli.errors import OutputError

if TYPE_CHECKING:
    from timecli.models.checkpoint import Checkpoint


def check_output(checkpoint: Checkpoint, inputs: Sequence[Path], output: Path, force: bool, dtype: str) -> None:
    """Refuse a model that cannot be written before any work is done. `inputs` are those beside the model."""
    from timecli.files.targets import check_target, require_model_only
    from timecli.models import contents

    settle(output)
    size = contents.size_on_disk(checkpoint, options.ITEMSIZES[dtype])
    sources = [checkpoint.path, *given(checkpoint.config), *inputs]
    check_target(output, sources, force, size, checkpoint.is_folder)
    if checkpoint.is_folder and output.exists():
        require_model_only(output, contents.names(checkpoint))


def check_in_place(checkpoint: Checkpoint, inputs: Sequence[Path], dtype: str) -> None:
    """Refuse to replace a model's files where that cannot be done, or where one is another input, too."""
    from timecli.files.targets import require_apart, require_editable, require_space
    from timecli.models import contents

    files = contents.rewritten(checkpoint, dtype != "keep")
    require_apart(files, inputs)
    require_editable(files)
    require_space(files[0], contents.size_on_disk(checkpoint, options.ITEMSIZES[dtype], in_place=True))


def settings_beside(model: Path, output: Path, inputs: Sequence[Path], copy: bool, force: bool) -> Path | None:
    """The .yaml of a single file's name from which A1111 and Forge read how to sample it, where `output` needs a copy.

    With `copy`, refuse what cannot be copied before any work is done.
    """
    from timecli.files.targets import check_target, require_no_link

    source = model if model.is_dir() else model.with_suffix(".yaml")
    if not source.is_file():
        if copy:
            raise OutputError(f"{model} has no .yaml with its name in its folder; leave out --with-config.")
        return None
    target = output.with_suffix(".yaml")
    if target.exists() and (target.samefile(source) or not copy):
        return None
    if copy:
        require_no_link(target)
        check_target(target, [source, *inputs], force, source.stat().st_size)
    return source


def bring_settings(source: Path, output: Path, copy: bool, force: bool) -> list[Path]:
    """Copy a model's .yaml under the output's name, or say that it is there. Returns what was written."""
    from timecli.files.writing import write_bytes

    target = output.with_suffix(".yaml")
    if not copy:
        terminal.warn(f"{source} says how UIs sample the model; copy it as {target}, or use --with-config.")
        return []
    write_bytes(target, source.read_bytes(), force)
    return [target]


def choose_output(model: Path, output: Path | None, in_place: bool) -> Path | None:
    """Where the edited model goes: `output`, or the model itself."""
    if in_place and output is not None:
        raise OutputError(f"--in-place writes to {model} and --output to {output}; choose one.")
    return model if in_place else output


def default_output(model: Path, name: str) -> Path:
    """In this folder, called after the model and what is done to it; a link of that name was not named by anyone."""
    from timecli.files.targets import require_no_link

    folder = Path(os.path.abspath(model)).name
    target = Path(f"{folder}-{name}" if model.is_dir() else f"{model.stem}-{name}.safetensors")
    require_no_link(target)
    return target


def require_folder(folder: Path) -> None:
    """Refuse a file where results go into a folder."""
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is a file; choose a folder.")
