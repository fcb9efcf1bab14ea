"""The rules of the house: imports point down, each library has one home, only the command line talks."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "timecli"
ROOMS = ["files", "manifests", "models", "text", "editing", "shipping", "drawing", "measuring", "commands"]
GROUND, ROOF = ["errors", "shown"], ["opened", "api", "cli", "__main__"]
ORDER = [*GROUND, *ROOMS, *ROOF]
STRANGERS = {("drawing", "shipping"), ("measuring", "shipping")}
"""Rooms that know nothing of each other, although one stands before the other."""
HOMES = {
    "inflect": {"manifests/plurals"},
    "tomli": {"manifests/manifest"},
    "transformers": {"drawing/libraries", "drawing/judge", "drawing/parts", "drawing/quiet", "text/loading"},
    "tokenizers": {"text/tokenizers"},
    "diffusers": {"drawing/parts", "drawing/render", "drawing/quiet", "text/pipelines"},
    "safetensors": {"files/safefile", "files/rewriting"},
    "tomlkit": {"manifests/additions", "manifests/settings"},
    "matplotlib": {"measuring/plots"},
    "ray": {"measuring/cluster"},
    "torchmetrics": {"measuring/quality"},
    "platformdirs": {"text/worlds"},
    "jinja2": {"drawing/html"},
    "yaml": {"models/listed"},
    "markupsafe": {"drawing/html"},
    "typer": {"commands", "cli"},
    "rich": {"commands/terminal"},
    "PIL": {"drawing", "measuring/inception", "measuring/pictures", "measuring/quality", "measuring/studio"},
}
TALKERS = {"commands", "cli"}


def imports(source: str) -> list[tuple[str, str]]:
    """(module, name) of every import; the name is empty for `import module`."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [(alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found += [(node.module or "", alias.name) for alias in node.names]
    return found


def ours(source: str) -> list[str]:
    """What a source imports of the package, as `room/module`, or as a name on the ground or the roof."""
    dotted = [f"{path}.{name}".split(".")[1:] for path, name in imports(source) if path.split(".")[0] == "timecli"]
    return ["/".join(parts[:2]) if parts[0] in ROOMS else parts[0] for parts in dotted if parts[0] in ORDER]


def wrong(place: str, source: str) -> list[str]:
    """What this place imports although it stands before it, or is a stranger to it."""
    room = place.split("/")[0]
    others = [(other, other.split("/")[0]) for other in ours(source)]
    return [other for other, its in others if ORDER.index(its) > ORDER.index(room) or (room, its) in STRANGERS]


def talks(source: str) -> list[str]:
    calls = [ast.unparse(node.func) for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    names = [ast.unparse(node) for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Attribute)]
    return [c for c in calls if c in ("print", "sys.exit", "exit")] + [
        n for n in names if n in ("os.environ", "torch.cuda", "sys.argv")
    ]


def place(path: Path) -> str:
    """Where a module stands: `room/module`, or its name where it stands in no room."""
    return path.relative_to(PACKAGE).with_suffix("").as_posix()


def modules() -> list[Path]:
    return [path for path in PACKAGE.rglob("*.py") if path.stem != "__init__"]


def test_every_module_has_its_place_and_every_room_says_what_it_is_for() -> None:
    assert {place(path).split("/")[0] for path in modules()} == set(ORDER)
    entries = [PACKAGE / room / "__init__.py" for room in ROOMS]
    assert [path for path in entries if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))] == []


@pytest.mark.parametrize("path", modules(), ids=place)
def test_module(path: Path) -> None:
    source, here = path.read_text(encoding="utf-8"), place(path)
    assert wrong(here, source) == []
    libraries = {module.split(".")[0] for module, _ in imports(source)} & HOMES.keys()
    assert [name for name in libraries if not {here, here.split("/")[0]} & HOMES[name]] == []
    allowed = {"torch.cuda"} if here == "drawing/memory" else set()  # which asks how much of a GPU is free
    assert here.split("/")[0] in TALKERS or set(talks(source)) <= allowed


def test_no_room_has_a_circle() -> None:
    graph = {place(path): set(ours(path.read_text(encoding="utf-8"))) for path in modules()}
    TopologicalSorter(graph).prepare()


def test_the_rules_can_fail() -> None:
    assert wrong("editing/solve", "from timecli import cli\nfrom timecli.text.encoding import load") == ["cli"]
    assert wrong("text/align", "def f():\n    from timecli.editing import solve") == ["editing/solve"]
    assert wrong("drawing/verify", "import timecli.shipping.publish") == ["shipping/publish"]
    assert talks("import os\nprint(os.environ['X'])") == ["print", "os.environ"]


def loaded(code: str) -> set[str]:
    report = "print(*{name.split('.')[0] for name in sys.modules}, file=sys.stderr)"
    script = f"import sys\ntry:\n    {code}\nexcept SystemExit:\n    pass\n{report}"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stderr.split())


def test_help_and_check_start_without_heavy_libraries() -> None:
    heavy = {"torch", "diffusers", "transformers", "safetensors"}
    assert not loaded("from timecli.cli import main; main(['--help'])") & heavy
    assert not loaded("import timecli.manifests.manifest, timecli.text.align") & heavy
    assert loaded("import timecli.editing.solve") & heavy, "the control"


def test_editing_needs_no_diffusers() -> None:
    assert "diffusers" not in loaded("import timecli.editing.compiling, timecli.editing.applying")
