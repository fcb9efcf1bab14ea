"""`timecli everyday`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from timecli.commands import options, terminal
from timecli.commands.comfyui import beside
from timecli.commands.groups import Reading, Telling, grouped
from timecli.commands.shared import given, open_model, read_encoder, require_readable, with_reading
from timecli.errors import ManifestError, OutputError
from timecli.shown import amount

Output = Annotated[Path, typer.Option("-o", "--output", help="File for the encoded everyday prompts.")]
ListFile = Annotated[
    Path | None, typer.Option("--list", help="Prompts, one a line. [default: the model's own list, else ours]")
]
Tokens = Annotated[str, typer.Option("--tokens", help="all or prompt, as solve.tokens of the manifests.")]


@grouped
def everyday(
    model: options.ModelPath,
    output: Output,
    list_file: ListFile = None,
    tokens: Tokens = "all",
    *,
    reading: Reading,
    force: options.Force = False,
    telling: Telling,
) -> None:
    """Encode everyday prompts with MODEL once, into a file that --everyday reads."""
    from timecli.files import foreign
    from timecli.files.targets import check_target
    from timecli.manifests.keys import Edit, Preserve, Solve
    from timecli.manifests.manifest import Manifest

    if reading.everyday is not None:
        raise OutputError(
            f"--everyday {reading.everyday} is an input, and this command writes such a file; name it with --output."
        )
    solve = Solve(tokens=options.choice(tokens, "--tokens", ("all", "prompt")))
    preserve = Preserve(everyday=True if list_file is None else str(list_file))
    task = with_reading(Manifest("everyday", (Edit("", ""),), solve=solve, preserve=preserve), reading)
    require_readable(reading)
    if list_file is not None:
        foreign.read(list_file, ManifestError)
    model, reading = beside(model, reading)
    checkpoint = open_model(model, reading.config, reading.text_encoder)
    check_target(output, given(model, list_file, reading.config, reading.tokenizer, reading.text_encoder), force, 0)

    from timecli.text import everyday as world
    from timecli.text import worlds

    encoder = read_encoder(checkpoint, reading, options.pick_device(reading.device), task.solve)
    prompts = world.prompts(task, encoder)
    with terminal.progress("everyday prompts", len(prompts), "prompts") as tick:
        worlds.save(world.measured(task, encoder, tick), output, force, follow=True)
    if telling.as_json:
        return terminal.print_json("everyday", {"prompts": len(prompts), "written": [str(output)]})
    terminal.say(f"{amount(len(prompts), 'prompt')}, the empty one among them")
    terminal.print_written([str(output)])
