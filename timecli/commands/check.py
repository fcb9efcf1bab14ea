"""`timecli check`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from timecli.commands import options, terminal
from timecli.commands.shared import open_model, refuse, with_clip_skip
from timecli.errors import TimecliError

if TYPE_CHECKING:
    from timecli.manifests.manifest import Manifest


def check(
    manifest_path: options.ManifestPath,
    model: options.OptionalModel = None,
    config: options.Config = None,
    tokenizer: options.Tokenizer = None,
    text_encoder: options.TextEncoders = None,
    clip_skip: options.ClipSkip = None,
) -> None:
    """Validate MANIFEST; with MODEL, show how tokens are paired and everything that would be refused."""
    from timecli.manifests import manifest as manifests
    from timecli.text.uisyntax import cautions

    manifest = with_clip_skip(manifests.load(manifest_path), clip_skip)
    if model is None:
        terminal.warn_all(cautions(manifest))
    else:
        refuse(_check_model(manifest, model, config, tokenizer, text_encoder))
    count = len(manifest.edits)
    terminal.say(f"{manifest_path}: {manifest.name} is valid, {count} edit{'s' if count > 1 else ''}.")
    if model is None:
        terminal.say("its prompts were not tried; name a model to see how their tokens are paired.", stderr=True)


def _check_model(
    manifest: Manifest, model: Path, config: Path | None, tokenizer: Path | None, text_encoder: list[Path] | None
) -> list[str]:
    """Print the token pairing and make the edit in memory; sentences for everything that would be refused."""
    from timecli.editing import applying, compiling
    from timecli.text import encoding
    from timecli.text.uisyntax import cautions

    checkpoint, cpu = open_model(model, config, text_encoder), options.pick_device("cpu")
    encoder = encoding.read_text_encoder(checkpoint, tokenizer, cpu, manifest.solve.clip_skip)
    sentences = compiling.problems(manifest, encoder)
    terminal.warn_all(cautions(manifest, encoder))
    terminal.print_pairs(manifest, encoder)
    for trial in (
        lambda: applying.require_unedited(checkpoint),
        lambda: applying.edit_matrices(checkpoint, [compiling.compile_edit(manifest, encoder, cpu)], cpu),
    ):
        try:
            trial()
        except TimecliError as error:
            sentences.append(str(error))
    return list(dict.fromkeys(sentences))
