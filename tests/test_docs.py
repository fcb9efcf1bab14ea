"""What the README and the pages in docs/ show is true of the program."""

import importlib.util
import re
import shlex
from pathlib import Path

import pytest

from timecli.manifests import manifest
from timecli.manifests.rows import KINDS
from timecli.models.layouts import SD1, SD2, SDXL, TRANSFORMERS

from .conftest import PICTUREBOOK, ROOT, Run

DOCS = ROOT / "docs"
README = ROOT / "README.md"
PAGES = [README, *sorted(DOCS.glob("*.md"))]
LINKED = [
    *PAGES,
    ROOT / "CONTRIBUTING.md",
    ROOT / "SECURITY.md",
    ROOT / "edits" / "README.md",
    *sorted((ROOT / "examples").glob("*/README.md")),
]
TABLES = {"Edit": "edit", "Solve": "solve", "Preserve": "preserve", "Verify": "verify", "Balance": "balance"}
MODEL_FILES = ("config", "judge")


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def commands(text: str) -> list[list[str]]:
    """The program's calls in the shell blocks of a page."""
    shells = [block.replace("\\\n", " ") for block in blocks(text, "sh")]
    lines = [line for block in shells for line in block.splitlines() if line.startswith("timecli ")]
    return [shlex.split(line, comments=True) for line in lines]


def unknown(call: list[str], run: Run) -> list[str]:
    """The options of a call that the command's help does not have."""
    _, command, *arguments = call
    known = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", run(command, "--help").out))
    return [argument for argument in arguments if argument.startswith("-") and argument.split("=")[0] not in known]


def undocumented(text: str) -> list[str]:
    """Keys of a manifest that no row of the page's table names."""
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    documented: set[str] = set()
    for row in rows:
        names = re.findall(r"`([^`]+)`", row)
        room = names[0].split(".")[0]
        documented |= {f"{room}{one}" if one.startswith(".") else one.strip("[]") for one in names}
    schema = manifest.schema()
    keys = {f"{prefix}.{key}" for table, prefix in TABLES.items() for key in schema["$defs"][table]["properties"]}
    keys |= {key for key in schema["properties"] if not any(full.startswith(f"{key}.") for full in keys)}
    return sorted(keys - documented)


def anchors(text: str) -> set[str]:
    """The headings as GitHub names them."""
    heads = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def astray(path: Path) -> list[str]:
    """Links that lead nowhere."""
    found = []
    for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)]*))?\)", read(path)):
        if target.startswith("https://"):
            continue
        goal = path.parent / target if target else path
        if not goal.exists() or (anchor and anchor not in anchors(read(goal))):
            found.append(f"{target}#{anchor}")
    return found


def test_the_readme_is_short_and_leads_to_every_page() -> None:
    assert len(read(README).splitlines()) <= 250
    assert [page for page in PAGES[1:] if f"](docs/{page.name})" not in read(README)] == []


@pytest.mark.parametrize("path", LINKED, ids=name)
def test_links_lead_somewhere_and_nothing_is_left_open(path: Path) -> None:
    assert astray(path) == []
    assert not any(mark in read(path) for mark in ("RESULTS", "TODO", "| …", "](…)"))


def test_the_tests_that_hold_a_boundary_are_there() -> None:
    named = re.findall(r"`(test_\w+\.py)`", read(ROOT / "SECURITY.md"))
    assert len(named) >= 15 and [one for one in named if not (ROOT / "tests" / one).is_file()] == []


def test_a_link_that_leads_nowhere_is_seen(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# One head\n[a](gone.md) [b](#no-head) [c](#one-head) [d](page.md#one-head)\n")
    assert astray(page) == ["gone.md#", "#no-head"]


@pytest.mark.parametrize("path", LINKED, ids=name)
def test_every_manifest_on_a_page_is_valid(path: Path) -> None:
    for block in blocks(read(path), "toml"):
        manifest.parse(block)


def test_the_pages_show_manifests_and_commands() -> None:
    """The control of the tests that go through all blocks: there are some."""
    assert blocks(read(README), "toml") and blocks(read(DOCS / "manifest.md"), "toml")
    assert len(commands(read(README))) >= 12


@pytest.mark.parametrize("path", LINKED, ids=name)
def test_every_command_on_a_page_exists_with_its_options(path: Path, run: Run) -> None:
    for call in commands(read(path)):
        assert unknown(call, run) == [], call


def test_an_option_that_does_not_exist_is_seen(run: Run) -> None:
    assert unknown(["timecli", "edit", "--delt", "--delta", "-o", "--force"], run) == ["--delt"]


def test_every_command_of_the_program_is_in_the_readme(run: Run) -> None:
    listed = re.findall(r"^  (\w+)  ", run("--help").out.split("Commands:")[1], flags=re.MULTILINE)
    assert {command for _, command, *_ in commands(read(README))} == set(listed)
    assert re.findall(r"^## timecli (\w+)$", read(DOCS / "commands.md"), flags=re.MULTILINE) == listed


def test_the_page_of_commands_is_what_its_script_writes() -> None:
    spec = importlib.util.spec_from_file_location("commands_page", DOCS / "commands.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert read(module.PAGE) == module.page(), "run python docs/commands.py"
    assert "--delta" in module.page()


def test_every_key_of_a_manifest_is_in_the_reference() -> None:
    page = read(DOCS / "manifest.md")
    assert undocumented(page) == []
    assert undocumented(page.replace("`solve.lambda`", "`solve.lamda`")) == ["solve.lambda"]


def test_the_complete_example_has_every_kind_of_prompt() -> None:
    (edit,) = (one for text in blocks(read(DOCS / "manifest.md"), "toml") for one in manifest.parse(text).edits)
    assert all(getattr(edit, where) for where in KINDS.values())


def unlisted(text: str) -> list[str]:
    """What the tables of models leave out of the families' rows: maps, text encoders, norms."""
    found = []
    families = [one for row in (SD1, SD2, SDXL, *TRANSFORMERS) for one in (row, *row.kinds)]
    for family in families:
        line = " ".join(line for line in text.splitlines() if line.startswith(f"| {family.name} "))
        maps = {name.split(".attn2.")[-1] for matrix in family.matrices for name in matrix.names}
        names = {name.removesuffix(".weight").replace("to_", "attn2.to_") for name in maps if name.startswith("to_")}
        names |= {name.removesuffix(".weight") for name in maps if not name.startswith("to_")}
        names |= {family.norm[0].removesuffix(".weight")} if family.norm else set()
        cells = [f"`{name}`" for name in names] + [tower.name for tower in family.towers]
        cells += [str(family.towers[0].width)] if len(family.towers) == 1 else []
        found += [f"{family.name}: {cell}" for cell in cells if cell not in line]
    return sorted(found)


def test_the_tables_of_models_have_every_map_text_encoder_and_norm() -> None:
    page = read(DOCS / "models.md")
    assert unlisted(page) == []
    assert unlisted(page.replace("`vector_in.in_layer`", "`vector_in`")) == ["FLUX.1: `vector_in.in_layer`"]
    assert unlisted(page.replace("`txt_norm`", "")) == ["Qwen-Image: `txt_norm`"]


def test_makefile_runs_what_the_readme_says() -> None:
    makefile = read(ROOT / "Makefile")
    for target in ("demo demo-full:", "test:"):
        assert target in makefile
    install = 'pip install -c constraints.txt -e ".[dev]"'
    assert install in makefile and install in read(ROOT / "CONTRIBUTING.md")


@pytest.fixture
def beside_a_model(tmp_path: Path, picturebook: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model.safetensors, in which the pages' commands run as they stand."""
    (tmp_path / "model.safetensors").symlink_to(picturebook)
    for folder in MODEL_FILES:
        (tmp_path / folder).symlink_to(PICTUREBOOK / folder, target_is_directory=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_path_of_the_readme_runs_as_it_stands(run: Run, beside_a_model: Path) -> None:
    """Only the pictures are fewer. verify may find that a threshold is missed, which is no mistake."""
    path = next(block for block in blocks(read(README), "sh") if "timecli init" in block)
    calls = commands(f"```sh\n{path}```")
    assert [command for _, command, *_ in calls] == ["init", "plan", "edit", "verify"]
    for _, command, *arguments in calls:
        fewer = ["--seeds", "1", "--steps", "2", "--guidance", "3"] if command == "verify" else []
        done = run(command, *arguments, *fewer)
        assert done.code == 0 or (done.code == 1 and command == "verify"), (command, done.err)
    made = {file.relative_to(beside_a_model).as_posix() for file in beside_a_model.rglob("*") if file.is_file()}
    assert {"blue-roses.toml", "model-blue-roses.safetensors", "blue-roses-verify/report.md"} <= made


def test_the_python_page_does_what_the_command_line_does(run: Run, beside_a_model: Path) -> None:
    (beside_a_model / "blue-roses.toml").write_text(
        'name = "blue-roses"\n[[edit]]\nsource = "a rose"\ndestination = "a blue rose"\n'
        "[verify]\nseeds = 1\nsteps = 2\n"
    )
    (block,) = blocks(read(DOCS / "api.md"), "python")
    exec(compile(block, "api.md", "exec"), {})
    assert run("edit", "blue-roses.toml", "model.safetensors", "-o", "other.safetensors").code == 0
    assert Path("edited.safetensors").read_bytes() == Path("other.safetensors").read_bytes()
    assert Path("report/report.html").exists()
