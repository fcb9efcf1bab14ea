"""`timecli init`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from timecli.commands import options, terminal
from timecli.commands.comfyui import beside
from timecli.commands.groups import Reading, Telling, grouped
from timecli.commands.shared import (
    everyday_world,
    given,
    open_model,
    read_encoder,
    refuse,
    require_readable,
    with_reading,
)
from timecli.errors import TimecliError

if TYPE_CHECKING:
    from timecli.manifests.drafts import Draft

Source = Annotated[str, typer.Argument(metavar="SOURCE", help='The prompt to edit: "a rose".')]
Destination = Annotated[str, typer.Argument(metavar="DESTINATION", help='What it should draw: "a blue rose".')]
Model = Annotated[
    Path | None, typer.Argument(metavar="[MODEL]", help="Finds neighbours that should stay, in this model's text.")
]
Output = Annotated[Path | None, typer.Option("-o", "--output", help="Manifest. [default: <name>.toml, in this folder]")]
Name = Annotated[
    str | None, typer.Option("--name", help="Name of the edit. [default: the output's, else from DESTINATION]")
]

Balance = Annotated[
    bool,
    typer.Option(
        "--balance", help="Draft a debiasing: DESTINATION adds a gender, and both should be equally frequent."
    ),
]


@grouped
def init(
    source: Source,
    destination: Destination,
    model: Model = None,
    output: Output = None,
    name: Name = None,
    balance: Balance = False,
    *,
    reading: Reading,
    force: options.Force = False,
    telling: Telling,
) -> None:
    """Write a manifest for one pair: its plural, prompts that should follow, prompts that should stay."""
    from timecli.files.targets import check_target, require_no_link
    from timecli.files.writing import write_bytes
    from timecli.manifests import draft_text, drafts, editors, wording
    from timecli.manifests import manifest as manifests

    _require_prompts(source, destination, model)
    change = wording.read(source, destination)
    name = name or draft_text.slug(output.stem if output else change.destination) or "edit"
    target = output or Path(f"{name}.toml")
    if output is None:
        require_no_link(target)
    check_target(target, given(model, reading.config, reading.tokenizer, reading.text_encoder), force, 0)
    draft = drafts.balanced(drafts.draft(change)) if balance else drafts.draft(change)
    manifests.parse(draft_text.written(draft, name), str(target))
    if model is not None:
        draft = _as_the_model_reads(draft, name, model, reading)
    text = f"{editors.line(target)}\n{draft_text.written(draft, name, model.resolve().stem if model else '')}"
    manifests.parse(text, str(target))
    write_bytes(target, text.encode(), force, follow=output is not None)
    written = [str(target), *map(str, editors.put(target))]
    if not draft.negatives:
        terminal.say("no neighbours that should stay: add some as negatives, or name a MODEL.", stderr=True)
    for sentence in draft.left_out:
        terminal.say(sentence, stderr=True)
    if telling.as_json:
        return terminal.print_json("init", {"manifest": name, "written": written})
    terminal.print_written(written)
    command = "tune --in-place" if balance else "plan"
    where = f" --comfyui {reading.comfyui}" if reading.comfyui else ""
    terminal.say(f"next: timecli {command} {target} {model or 'MODEL'}{where}", stderr=True)


def _require_prompts(source: str, destination: str, model: Path | None) -> None:
    """Refuse a model where a prompt belongs, before its words are looked at."""
    from timecli.files.safefile import PICKLES

    for text in (source, destination):
        path = Path(text)
        if path.suffix == ".toml":
            raise TimecliError(f"{text} is a manifest where a prompt belongs; `init` writes one from two prompts.")
        if path.suffix in (".safetensors", *PICKLES) or os.path.exists(path / "model_index.json"):
            prompts = [one for one in (source, destination, str(model or "")) if one and one != text]
            order = " ".join(f'"{one}"' for one in [*prompts, "DESTINATION"][:2])
            raise TimecliError(
                f"{text} is a model where a prompt belongs; they are swapped: timecli init {order} {text}."
            )


def _as_the_model_reads(draft: Draft, name: str, model: Path, reading: Reading) -> Draft:
    """The draft with the value that is assumed and the nearest everyday nouns, all of which are preserved."""
    from timecli.manifests import draft_text
    from timecli.manifests import manifest as manifests

    require_readable(reading)
    model, reading = beside(model, reading)
    manifest = with_reading(manifests.parse(draft_text.written(draft, name)), reading)
    pairs = with_reading(draft_text.pairs_alone(draft, name), reading)
    checkpoint = open_model(model, reading.config, reading.text_encoder)

    from timecli.editing import compiling, neighbours
    from timecli.text.uisyntax import cautions

    where = options.pick_device(reading.device)
    encoder = read_encoder(checkpoint, reading, where, manifest.solve)
    terminal.warn_all(cautions(manifest, encoder))
    refuse(compiling.problems(manifest, encoder))
    world = everyday_world(manifest, encoder, reading)
    delta = compiling.compile_edit(pairs, checkpoint, encoder, options.exact_device(where), world)
    return neighbours.fitted(draft, delta, checkpoint, encoder, world)
