"""`timecli check`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from timecli import options, terminal
from timecli.commands.shared import given, refuse, settle
from timecli.errors import TimecliError

if TYPE_CHECKING:
    from timecli.manifest import Manifest


def check(
    manifest_path: options.ManifestPath,
    model: options.OptionalModel = None,
    config: options.Config = None,
    tokenizer: options.Tokenizer = None,
    text_encoder: options.TextEncoder = None,
) -> None:
    """Validate MANIFEST; with MODEL, show how tokens are paired and everything that would be refused."""
    from timecli import manifest as manifests

    manifest = manifests.load(manifest_path)
    if model is not None:
        refuse(_check_model(manifest, model, config, tokenizer, text_encoder))
    count = len(manifest.edits)
    terminal.say(f"{manifest_path}: {manifest.name} is valid, {count} edit{'s' if count > 1 else ''}.")
    if model is None:
        terminal.say("its prompts were not tried; name a model to see how their tokens are paired.", stderr=True)


def _check_model(
    manifest: Manifest, model: Path, config: Path | None, tokenizer: Path | None, text_encoder: Path | None
) -> list[str]:
    """Print the token pairing and make the edit in memory; sentences for everything that would be refused."""
    from timecli import edit as editing
    from timecli.checkpoint import open_checkpoint

    settle(model, *given(config, text_encoder))
    checkpoint, cpu = open_checkpoint(model, config, text_encoder), options.pick_device("cpu")
    encoder = editing.read_text_encoder(checkpoint, tokenizer, cpu)
    sentences = editing.problems(manifest, encoder)
    terminal.print_pairs(manifest, encoder)
    for trial in (
        lambda: editing.require_unedited(checkpoint),
        lambda: editing.edit_matrices(checkpoint, [editing.compile_edit(manifest, encoder, cpu)], cpu),
    ):
        try:
            trial()
        except TimecliError as error:
            sentences.append(str(error))
    return list(dict.fromkeys(sentences))
