"""What is shipped: its name, what it says that it needs, and a wheel that works without the source."""

import ast
import os
import re
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest
import tomli

from . import oldest
from .conftest import PICTUREBOOK, ROOT

PROJECT = tomli.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PACKAGE = ROOT / "timecli"
TEXTS = {".py", ".md", ".toml", ".txt", ".yml", ".yaml", ".sh", ".cff", ""}
SOMEBODY_ELSES = re.compile(r"""pip\d? (?:install|download|wheel)\b[^\n]*?[ \t"'=]timecli(?![\w/.-])""")
DISTRIBUTIONS = {"PIL": "pillow", "yaml": "pyyaml"}
"""Imports whose distribution has another name."""


def versioned(*folders: str) -> list[Path]:
    """Every file under version control, or about to be."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", *folders]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def required(line: str) -> str:
    """The name in a line of dependencies."""
    return re.split(r"[\[<>=!~; ]", line)[0]


def imported(folder: Path) -> set[str]:
    """The libraries that modules of a folder import, at their top or later."""
    found: set[str] = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                found.add(str(node.module).split(".")[0])
    return found - set(sys.stdlib_module_names)


def test_no_text_tells_to_install_the_package_of_that_name_which_is_somebody_elses() -> None:
    texts = [path for path in versioned() if path.suffix in TEXTS and path != Path(__file__)]
    found = [path for path in texts if SOMEBODY_ELSES.search(path.read_text(encoding="utf-8"))]
    assert found == []
    assert PROJECT["name"] == "timecli-sd" and list(PROJECT["scripts"]) == ["timecli"]


@pytest.mark.parametrize(
    "line", ["pip install timecli", 'pip install -U "timecli[bench]"', "pip3 install 'timecli>=1'"]
)
def test_such_a_text_is_seen(line: str) -> None:
    assert SOMEBODY_ELSES.search(line)
    assert not SOMEBODY_ELSES.search(line.replace("timecli", "timecli-sd"))


def test_what_is_imported_is_required() -> None:
    lines = (
        PROJECT["dependencies"] + PROJECT["optional-dependencies"]["bench"] + PROJECT["optional-dependencies"]["ray"]
    )
    needed = {DISTRIBUTIONS.get(name, name) for name in imported(PACKAGE) - {"timecli"}}
    assert needed - {required(line) for line in lines} == set()
    assert {"torch", "tokenizers", "ray"} <= needed, "the control"


def test_every_requirement_has_a_lowest_version() -> None:
    assert oldest.lowest(PROJECT["dependencies"]).keys() == {required(line) for line in PROJECT["dependencies"]}
    assert oldest.lowest(["a>=1.2", "b", "c<3", "d>=1,<2"]) == {"a": "1.2", "d": "1"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, ROOT]
    subprocess.run(command, check=True)
    (built,) = folder.glob("timecli_sd-*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment that has the wheel, and the libraries of this one.

    A .pth file names their folder, in which no other .pth file counts: an editable install is not seen.
    """
    folder = tmp_path_factory.mktemp("fresh")
    venv.create(folder, symlinks=True)
    places = {"base": str(folder), "platbase": str(folder)}
    own = Path(sysconfig.get_path("purelib", "venv", places))
    libraries = {sysconfig.get_path(name) for name in ("purelib", "platlib")}
    (own / "libraries.pth").write_text("".join(f"{path}\n" for path in libraries))
    programs = Path(sysconfig.get_path("scripts", "venv", places))
    subprocess.run(
        [sys.executable, "-m", "pip", "--quiet", "--python", programs / "python", "install", "--no-deps", wheel],
        check=True,
    )
    return programs


def test_the_wheel_has_the_package_and_its_data_and_nothing_else(wheel: Path) -> None:
    inside = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert inside == {path.relative_to(ROOT).as_posix() for path in versioned("timecli")}
    assert {"timecli/data/everyday.txt", "timecli/data/clip/LICENSE", "timecli/py.typed"} <= inside, "the control"


def test_the_installed_wheel_edits_a_model_from_another_folder(installed: Path, tmp_path: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}

    def run(*command: object) -> str:
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    where = run(installed / "python", "-c", "import timecli; print(timecli.__file__)")
    assert Path(where.strip()).is_relative_to(installed.parent), "the source tree is not what answers"
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", run(installed / "timecli", "--version"))
    manifest = ROOT / "edits" / "picturebook" / "blue-roses.toml"
    run(installed / "timecli", "edit", manifest, PICTUREBOOK / "picturebook.safetensors", "-o", "blue.safetensors")
    assert "blue-roses" in run(installed / "timecli", "inspect", "blue.safetensors")
    run(installed / "python", "-c", "from timecli.text.tokenizers import clip_tokenizer; clip_tokenizer()")
