"""What the README shows is true of the program."""

import re
import shlex
from pathlib import Path

import pytest

from timecli.manifests import manifest

from .conftest import Run

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
CARD = (ROOT / "examples" / "picturebook" / "README.md").read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def commands() -> list[list[str]]:
    lines = [line for block in blocks(README, "sh") for line in block.splitlines() if line.startswith("timecli ")]
    return [shlex.split(line.split("#")[0]) for line in lines]


def test_every_manifest_in_the_readme_is_valid() -> None:
    found = [manifest.parse(block) for block in blocks(README, "toml")]
    assert len(found) >= 2


def test_every_command_in_the_readme_exists_with_its_options(run: Run) -> None:
    assert len(commands()) >= 8
    for _, command, *arguments in commands():
        help_text = run(command, "--help").out
        assert all(f" {argument}" in help_text for argument in arguments if argument.startswith("-")), (
            command,
            arguments,
        )


def test_every_command_of_the_program_is_in_the_readme(run: Run) -> None:
    listed = re.findall(r"^  (\w+)  ", run("--help").out.split("Commands:")[1], flags=re.MULTILINE)
    commands = "init plan edit apply export verify bench tune inspect diff everyday import schema"
    assert listed == commands.split()
    assert all(f"timecli {name}" in README for name in listed)


def test_every_key_of_a_manifest_is_in_the_reference() -> None:
    table = README.split("## Manifest")[1].split("A complete example")[0]
    tables = manifest.schema()["$defs"]
    for name, prefix in (
        ("Edit", "edit"),
        ("Solve", "solve"),
        ("Preserve", "preserve"),
        ("Verify", "verify"),
        ("Balance", "balance"),
    ):
        for key in tables[name]["properties"]:
            assert f"`{prefix}.{key}`" in table or f"`.{key}`" in table, key
    assert all(
        f"`{key}`" in table or f"`[[{key}]]`" in table or f"`{key}." in table for key in manifest.schema()["properties"]
    )


@pytest.mark.parametrize("text", [README, CARD], ids=["README", "model card"])
def test_links_lead_somewhere_and_nothing_is_left_open(text: str) -> None:
    folder = ROOT if text is README else ROOT / "examples" / "picturebook"
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert target.startswith("https://") or (folder / target).exists(), target
    assert not any(mark in text for mark in ("RESULTS", "TODO", "| …", "](…)"))


def test_makefile_runs_what_the_readme_says() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in ("demo demo-full:", "test:"):
        assert target in makefile
    assert (
        'pip install -c constraints.txt -e ".[dev]"' in makefile
        and 'pip install -c constraints.txt -e ".[dev]"' in README
    )
