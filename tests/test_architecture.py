"""The rules of the house: imports point down, each library has one home, only the command line talks."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "timecli"
ORDER = [
    "errors",
    "shown",
    "foreign",
    "kinds",
    "records",
    "manifest",
    "timed",
    "align",
    "layouts",
    "openclip",
    "safefile",
    "variants",
    "towers",
    "unets",
    "outfile",
    "parts",
    "swap",
    "staging",
    "targets",
    "writing",
    "tokenizers",
    "sizes",
    "encode",
    "uisyntax",
    "solve",
    "checkpoint",
    "delta",
    "edit",
    "undo",
    "provenance",
    "publish",
    "export",
    "compare",
]
ORDER += [
    "render",
    "judge",
    "verify",
    "report",
    "plan",
    "rivals",
    "quality",
    "digest",
    "studio",
    "bench",
    "tables",
    "plots",
    "cluster",
    "tune",
]
ORDER += ["terminal", "options", "commands", "cli", "__main__"]
HOMES = {
    "tomli": {"manifest"},
    "transformers": {"encode", "judge", "sizes", "tokenizers"},
    "diffusers": {"render"},
    "safetensors": {"safefile", "writing"},
    "tomlkit": {"tune"},
    "matplotlib": {"plots"},
    "ray": {"cluster"},
    "torchmetrics": {"quality"},
    "typer": {"options", "commands", "cli"},
    "rich": {"terminal"},
    "PIL": {"render", "judge", "verify", "report", "quality", "studio"},
}
TALKERS = {"options", "commands", "cli", "terminal"}


def imports(source: str) -> list[tuple[str, str]]:
    """(module, name) of every import; the name is empty for `import module`."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [(alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found += [(node.module or "", alias.name) for alias in node.names]
    return found


def below(module: str, source: str) -> list[str]:
    """Modules of ours that this one imports although they stand at or behind it."""
    ours = [
        name if path == "timecli" else path.split(".")[1]
        for path, name in imports(source)
        if path.split(".")[0] == "timecli"
    ]
    return [name for name in ours if name in ORDER and ORDER.index(name) >= ORDER.index(module)]


def talks(source: str) -> list[str]:
    calls = [ast.unparse(node.func) for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    names = [ast.unparse(node) for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Attribute)]
    return [c for c in calls if c in ("print", "sys.exit", "exit")] + [
        n for n in names if n in ("os.environ", "torch.cuda", "sys.argv")
    ]


def modules() -> list[Path]:
    return [path for path in PACKAGE.rglob("*.py") if path.stem != "__init__"]


def place(path: Path) -> str:
    """Where a module stands: its own name, or that of its folder."""
    return path.stem if path.parent == PACKAGE else path.parent.name


def test_every_module_has_its_place() -> None:
    assert {place(path) for path in modules()} == set(ORDER)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_module(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    # The commands share a module of their own, beside them.
    assert [name for name in below(place(path), source) if name != place(path)] == []
    libraries = {module.split(".")[0] for module, _ in imports(source)} & HOMES.keys()
    assert [name for name in libraries if place(path) not in HOMES[name]] == []
    assert place(path) in TALKERS or talks(source) == []


def test_the_rules_can_fail() -> None:
    assert below("solve", "from timecli import cli\nfrom timecli.encode import load") == ["cli"]
    assert below("align", "def f():\n    from timecli.solve import solve") == ["solve"]
    assert talks("import os\nprint(os.environ['X'])") == ["print", "os.environ"]


def loaded(code: str) -> set[str]:
    report = "print(*{name.split('.')[0] for name in sys.modules}, file=sys.stderr)"
    script = f"import sys\ntry:\n    {code}\nexcept SystemExit:\n    pass\n{report}"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stderr.split())


def test_help_and_check_start_without_heavy_libraries() -> None:
    heavy = {"torch", "diffusers", "transformers", "safetensors"}
    assert not loaded("from timecli.cli import main; main(['--help'])") & heavy
    assert not loaded("import timecli.manifest, timecli.align") & heavy
    assert loaded("import timecli.solve") & heavy, "the control"


def test_editing_needs_no_diffusers() -> None:
    assert "diffusers" not in loaded("import timecli.edit, timecli.delta")
