"""What several commands do before they start or when they end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from timecli.commands import terminal
from timecli.commands.memory import require_room
from timecli.errors import Interrupted, ManifestError, TimecliError

if TYPE_CHECKING:
    import torch

    from timecli.commands.groups import Drawing, Reading, Trying
    from timecli.manifests.keys import Solve
    from timecli.manifests.manifest import Manifest
    from timecli.models.checkpoint import Checkpoint, Need
    from timecli.text.everyday import Everyday
    from timecli.text.readers import TextEncoder


def open_model(
    path: Path,
    config: Path | None = None,
    text_encoder: Sequence[Path] | None = None,
    ema: bool = True,
    needs: Need = "prompts",
) -> Checkpoint:
    """`open_checkpoint` on settled files, and what the user should know of the model on stderr."""
    from timecli.models.checkpoint import open_checkpoint

    settle(*given(path, config, text_encoder))
    checkpoint = open_checkpoint(path, config, text_encoder or (), ema, needs)
    if needs == "prompts":
        require_room(checkpoint)
    for sentence in checkpoint.cautions:
        terminal.warn(sentence)
    return checkpoint


def read_encoder(checkpoint: Checkpoint, reading: Reading, where: torch.device, solve: Solve) -> TextEncoder:
    """`read_text_encoder`, and what the user should know of it on stderr."""
    from timecli.text.encoding import read_text_encoder

    encoder = read_text_encoder(
        checkpoint, reading.tokenizer, where, solve.clip_skip, solve.length, reading.comfyui is not None
    )
    terminal.warn_all(encoder.cautions)
    return encoder


def require_readable(reading: Reading, judge: Path | None = None) -> None:
    """Refuse what is given beside MODEL and is not there, before anything is loaded."""
    from timecli.files.safefile import open_file
    from timecli.models.judges import require_judge

    if reading.tokenizer is not None:
        from timecli.text.tokenizers import require_tokenizer

        require_tokenizer(reading.tokenizer)
    if reading.everyday is not None:
        open_file(reading.everyday)
    if judge is not None:
        require_judge(judge)


def load_manifest(path: Path, reading: Reading, trying: Trying | None = None) -> Manifest:
    """A manifest from its file, with the values that are tried in place of its own; its text says so, too."""
    from timecli.manifests import manifest as manifests

    manifest = manifests.load(path)
    if trying and (values := trying.values()):
        from timecli.manifests import settings

        if "everyday_weight" in values and manifest.preserve.everyday is False:
            raise ManifestError(f"{path} does not preserve everyday prompts; leave out --everyday-weight.")
        text = settings.written(manifest, values)
        manifest = replace(manifests.parse(text, str(path)), folder=manifest.folder)
    return with_reading(manifest, reading)


def load_together(paths: Sequence[Path], reading: Reading, trying: Trying | None = None) -> Manifest:
    """One manifest, or several as one joint edit; says which prompts of one are preserved no more beside another."""
    from timecli.manifests import company

    manifest = company.joined([load_manifest(path, reading, trying) for path in paths])
    for prompt, edit in company.overruled(manifest):
        terminal.warn(
            f"{prompt!r} is preserved in one manifest, and {manifest.of(edit).name} edits {edit.source!r}: it is not "
            "preserved."
        )
    return manifest


def with_reading(manifest: Manifest, reading: Reading) -> Manifest:
    """The manifest with another `solve.clip_skip` and `solve.length`, if they are given."""
    solve = manifest.solve
    skip, length = reading.clip_skip or solve.clip_skip, reading.length or solve.length
    return replace(manifest, solve=replace(solve, clip_skip=skip, length=length))


def everyday_world(manifest: Manifest, encoder: TextEncoder, reading: Reading) -> Everyday | None:
    """What the edit preserves in expectation: from a file, the user's cache, or encoded with progress."""
    from timecli.text import everyday, worlds

    if not manifest.preserve.world:
        return None
    if reading.everyday is not None:
        return worlds.given(manifest, encoder, reading.everyday)
    folder = None if reading.no_cache else worlds.cache()
    prompts = len(everyday.prompts(manifest, encoder))
    with terminal.progress("everyday prompts", prompts, "prompts") as tick:
        return worlds.kept(manifest, encoder, folder, tick)


def everyday_worlds(encoder: TextEncoder, reading: Reading) -> Callable[[Manifest], Everyday | None]:
    """`everyday_world` for many manifests, of which most have the same list: none is encoded twice."""
    seen: dict[object, Everyday | None] = {}

    def world(manifest: Manifest) -> Everyday | None:
        key = (manifest.preserve.world, manifest.preserve.everyday, manifest.folder, manifest.solve.tokens)
        if key not in seen:
            seen[key] = everyday_world(manifest, encoder, reading)
        return seen[key]

    return world


def refuse(sentences: Sequence[str]) -> None:
    """Print every sentence and stop, if there is any."""
    for sentence in sentences:
        terminal.complain(sentence)
    if sentences:
        raise typer.Exit(2)


def model_last(paths: Sequence[Path], what: str) -> tuple[list[Path], Path]:
    """Some files of a kind, called `what`, and the model behind them."""
    *files, model = paths
    if not files:
        raise TimecliError(f"{model} is the only file; give one {what} or more, and the model last.")
    if what == "manifest":
        require_once(files)
    return files, model


def manifests_first(paths: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """The manifests, the first path and what ends in .toml behind it, and the models behind them."""
    count = next((i for i, path in enumerate(paths) if i > 0 and path.suffix != ".toml"), len(paths))
    require_once(paths[:count])
    return list(paths[:count]), list(paths[count:])


def require_once(paths: Sequence[Path]) -> None:
    """Refuse a file that is given twice."""
    from timecli.files.parts import real

    for i, path in enumerate(paths):
        if real(path) in map(real, paths[:i]):
            raise TimecliError(f"{path} is given twice; leave one out.")


def settle(*paths: Path | None) -> None:
    """Settle what stopped runs have left half-way at these paths, and say so."""
    from timecli.files import swap

    for path in filter(None, paths):
        for sentence in swap.settle(path):
            terminal.warn(sentence)


def given(*paths: Path | Sequence[Path] | None) -> list[Path]:
    """The inputs of a command, of those that may be missing or several."""
    return [one for path in paths if path for one in ([path] if isinstance(path, Path) else path)]


def stated(drawing: Drawing, tasks: Sequence[Manifest]) -> tuple[int | None, float | None]:
    """Steps and guidance: what the options say, else the manifests; None is the default.

    Raises:
        ManifestError: the manifests differ, and no option decides.
    """
    steps = drawing.steps or _agreed(tasks, "steps")
    guidance = _agreed(tasks, "guidance") if drawing.guidance is None else drawing.guidance
    return None if steps is None else int(steps), guidance


def _agreed(tasks: Sequence[Manifest], key: str) -> float | None:
    """What all manifests say under `[verify]`; None where none says anything."""
    said: dict[float | None, str] = {}
    for task in tasks:
        said.setdefault(getattr(task.verify, key), task.name)
    if len(said) > 1:
        has = [
            f"{name} has no verify.{key}" if value is None else f"{name} has verify.{key} {value:g}"
            for value, name in said.items()
        ]
        raise ManifestError(f"{has[0]} and {has[1]}; decide with --{key}.")
    return next(iter(said))


@contextmanager
def resumable() -> Iterator[None]:
    """Inside, what is finished is kept for the same command, and who stops it is told so."""
    try:
        yield
    except Interrupted as error:
        from timecli.drawing.album import mine

        error.resumes = mine().lasts
        raise


def judge_folder(given: Path | None, model: Path) -> Path:
    """The judge that was asked for, or the one beside the model."""
    from timecli.models.judges import judge_beside

    return given or judge_beside(model)


def require_extra(module: str, extra: str) -> None:
    """Refuse to go on without an optional package."""
    if find_spec(module) is None:
        raise TimecliError(f'{module} is not installed; run pip install "timecli-sd[{extra}]".')
