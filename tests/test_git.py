"""The repository of edits runs as its README says, and the action and the hook do what docs/git.md says."""

import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import save_file

from .conftest import PICTUREBOOK, ROOT

EXAMPLE = ROOT / "examples" / "git"
ACTION = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
(HOOK,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
WORKFLOW = EXAMPLE / ".github" / "workflows" / "edits.yml"
MANIFEST = 'name = "x"\n[[edit]]\nsource = "A rose"\ndestination = "A blue rose"\n'
MISSED = (
    MANIFEST
    + '[verify]\ngenerality = 1.0\n[[edit]]\nsource = "A tulip"\ndestination = "A green tulip"\n'
    + ('positives = [{ prompt = "A cow", destination = "A blue cow" }]\n')
)
EVIL = [
    *("a b;$(touch gone).toml", "-x.toml", "`touch gone`.toml", "new\nline | **x**.toml", "<b>@all.toml"),
    *("::error::x.toml", "\n::set-output name=report::x.toml", "\n::stop-commands::x.toml", "[a](javascript:x).toml"),
    *("~~~.toml", "$GITHUB_OUTPUT.toml", "--output=x.toml", "%0A::error::.toml", "\r# x.toml", "....toml", "a\\b.toml"),
]


class Shell:
    """A folder in which scripts run with this checkout's `timecli`."""

    def __init__(self, folder: Path, programs: Path) -> None:
        self.folder, self.programs = folder, programs

    def program(self, name: str, text: str) -> None:
        path = self.programs / name
        path.write_text(f"#!/usr/bin/env bash\n{text}\n")
        path.chmod(0o755)

    def __call__(self, *command: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
        path = f"{self.programs}{os.pathsep}{os.environ['PATH']}"
        who = {f"GIT_{role}_{key}": "a@b" for role in ("AUTHOR", "COMMITTER") for key in ("NAME", "EMAIL")}
        plain = {"GIT_CONFIG_GLOBAL": os.devnull, "PYTHONPATH": str(ROOT), "PATH": path}
        environment = {**os.environ, **who, **plain, **variables}
        return subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True)

    def git(self, *words: str) -> str:
        done = self("git", *words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def commit(self, what: str) -> str:
        self.git("add", ".")
        self.git("commit", "-qm", what)
        return self.git("rev-parse", "HEAD").strip()


@pytest.fixture
def shell(forked: list[str], tmp_path: Path) -> Shell:
    """A copy of the example with picturebook as the model, its judge put there, and fewer pictures."""
    folder, programs = tmp_path / "repository", tmp_path / "programs"
    programs.mkdir()
    shutil.copytree(EXAMPLE, folder)
    shutil.copytree(PICTUREBOOK / "judge", folder / "judge")
    shutil.copytree(PICTUREBOOK / "config", folder / "config")
    shutil.copy(PICTUREBOOK / "picturebook.safetensors", folder / "base.safetensors")
    manifest = folder / "edits" / "blue-roses.toml"
    manifest.write_text(manifest.read_text().replace("seeds = 8", "seeds = 1\nsteps = 3\nguidance = 3"))
    made = Shell(folder, programs)
    made.program("timecli", f'exec {shlex.join(forked)} "$@"')
    made.git("init", "-q")
    return made


def readme_lines() -> list[str]:
    blocks = re.findall(r"```sh\n(.*?)```", (EXAMPLE / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if not line.startswith("#")]


def rows(report: Path) -> dict[str, tuple[str, ...]]:
    """What the summary says of each manifest."""
    table = (report / "summary.md").read_text().splitlines()[2:]
    found = [tuple(cell.strip() for cell in line.split("|")[1:-1]) for line in table if line.startswith("| ")]
    return {first: tuple(rest) for first, *rest in found}


def test_git_shows_every_file_whatever_it_is(shell: Shell) -> None:
    """A LoRA, the judge, an LFS pointer, a file that is cut off, a model without edits: git shows them and goes on."""
    edits = shell.folder / "edits"
    (shell.folder / ".gitignore").unlink()
    (config,) = [line for line in readme_lines() if "textconv" in line]
    assert shell(*shlex.split(config)).returncode == 0
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize 1234\n"
    lora = {"lora_unet_x.lora_up.weight": torch.zeros(2, 1), "lora_unet_x.lora_down.weight": torch.zeros(1, 2)}
    shell.commit("the example, with its judge and a model")
    for number in (1, 2):
        save_file(lora, edits / "style.safetensors", {"number": str(number)})
        (edits / "large.safetensors").write_text(pointer.format(str(number) * 64))
        (edits / "half.safetensors").write_bytes((edits / "style.safetensors").read_bytes()[: 40 + number])
        (edits / "empty.delta").write_bytes(b"")
        (edits / "page.delta").write_text(f"<!DOCTYPE html><p>{number}")
        shell.commit(f"files {number}")
    (edits / "large.safetensors").write_text(pointer.format("3" * 64))
    for words in (("diff",), ("show",), ("log", "-p"), ("diff", "HEAD~2"), ("show", "HEAD:edits/large.safetensors")):
        done = shell("git", *words)
        assert done.returncode == 0 and not done.stderr, done.stderr
    shown = shell.git("log", "-p")
    for said in (
        "+# style.safetensors is a LoRA, not a model", "+# large.safetensors is a Git LFS pointer",
        "+oid sha256:" + "1" * 64, "+# half.safetensors is", "+# empty.delta is", "+# page.delta is a web page",
        "+# model.safetensors is a CLIP of words and pictures", "+# Stable Diffusion 1.x without edits",
    ):  # fmt: skip
        assert said in shown, said
    assert "git-blob" not in shown, "the folder that git puts a copy into says nothing"
    assert "-oid sha256:" + "2" * 64 in shell.git("diff")


def test_the_judge_is_kept_and_other_weights_are_not(shell: Shell) -> None:
    shell.commit("all")
    kept = shell.git("ls-files").splitlines()
    assert "judge/model.safetensors" in kept and "base.safetensors" not in kept


def test_every_command_of_the_readme_does_what_it_says(shell: Shell) -> None:
    shell.commit("before")
    lines = readme_lines()
    assert len(lines) == 6
    for line in lines:
        done = shell("bash", "-c", line)
        assert done.returncode == 0, (line, done.stdout, done.stderr)
    assert (shell.folder / "release.safetensors").exists()
    assert rows(shell.folder / "report") == {"edits/blue-roses.toml": ("holds", "holds")}
    assert (shell.folder / "report" / "edits" / "blue-roses" / "sheet.png").exists()
    assert shell.git("status", "--porcelain").split() == ["??", "edits/blue-roses.delta"], "all else is ignored"


def test_git_shows_what_changed_in_a_delta(shell: Shell) -> None:
    configure, edit, *_ = readme_lines()
    shell("bash", "-c", configure)
    manifest = shell.folder / "edits" / "blue-roses.toml"
    for colour in ("blue", "white"):
        manifest.write_text(manifest.read_text().replace("A pack of blue roses", f"A pack of {colour} roses"))
        assert shell("bash", "-c", f"{edit} --force").returncode == 0
        shell.commit(colour)
    shown = shell.git("diff", "HEAD~1", "--", "edits/blue-roses.delta")
    assert '-destination = "A pack of blue roses"' in shown and '+destination = "A pack of white roses"' in shown


def test_a_manifest_that_fails_hides_no_other_and_fails_the_whole(shell: Shell) -> None:
    edits, report = shell.folder / "edits", shell.folder / "report"
    (edits / "a-broken.toml").write_text("name = ")
    (edits / "b-missed.toml").write_text(MISSED)
    done = shell("bash", "check.sh", MODEL="base.safetensors", VERIFY="no")
    assert done.returncode == 1
    assert rows(report) == {
        "edits/a-broken.toml": ("**refused**", "not drawn"),
        "edits/b-missed.toml": ("**threshold missed**", "not drawn"),
        "edits/blue-roses.toml": ("holds", "not drawn"),
    }
    said = (report / "summary.md").read_text()
    assert "    timecli: edits/a-broken.toml" in said and "**edits/blue-roses.toml**" not in said
    assert shell("bash", "check.sh", "edits/blue-roses.toml", MODEL="base.safetensors", VERIFY="no").returncode == 0


def steps(variables: dict[str, str]) -> list[dict[str, Any]]:
    """The steps of the workflow's only job that run scripts, with the repository's variables in their environment."""
    (job,) = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))["jobs"].values()
    named = {
        key: re.sub(r"\$\{\{ vars\.(\w+) \}\}", lambda found: variables[found[1]], value)
        for key, value in job["env"].items()
    }
    return [step | {"env": named | step.get("env", {})} for step in job["steps"] if "run" in step]


def test_the_workflow_checks_the_model_and_then_the_manifests(shell: Shell) -> None:
    model = shell.folder / "base.safetensors"
    elsewhere = model.rename(shell.programs.parent / "elsewhere.safetensors")
    digest = hashlib.sha256(elsewhere.read_bytes()).hexdigest()

    def play(expected: str) -> list[int]:
        install, *runs = steps({"MODEL_URL": elsewhere.as_uri(), "MODEL_SHA256": expected})
        assert install["run"] == "pip install timecli-sd"
        return [shell("bash", "-e", "-c", step["run"], VERIFY="no", **step["env"]).returncode for step in runs]

    assert play(digest) == [0, 0]
    assert rows(shell.folder / "report") == {"edits/blue-roses.toml": ("holds", "not drawn")}
    assert play("0" * 64)[0] == 1


def test_what_the_page_says_of_the_inputs_is_so() -> None:
    page = (ROOT / "docs" / "git.md").read_text(encoding="utf-8").split("| input |")[1].split("\n\n")[0]
    table = dict(re.findall(r"^\| `([\w-]+)` \| (?:`(.*?)`)? ?\|", page, flags=re.MULTILINE))
    assert table == {name: one["default"] for name, one in ACTION["inputs"].items()}
    assert all(one["description"] for one in ACTION["inputs"].values())


def test_yaml_on_the_page_is_yaml() -> None:
    page = (ROOT / "docs" / "git.md").read_text(encoding="utf-8")
    workflow, hooks = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", page, flags=re.DOTALL)]
    given = workflow["jobs"]["edits"]["steps"][-1]["with"]
    assert set(given) <= set(ACTION["inputs"])
    assert hooks["repos"][0]["hooks"] == [{"id": HOOK["id"]}]


@pytest.mark.parametrize("path", [ROOT / "action.yml", WORKFLOW], ids=["action", "workflow"])
def test_nothing_from_outside_is_pasted_into_a_script(path: Path) -> None:
    found = yaml.safe_load(path.read_text(encoding="utf-8"))
    listed = found["runs"]["steps"] if "runs" in found else found["jobs"]["edits"]["steps"]
    scripts = [step["run"] for step in listed if "run" in step]
    assert len(scripts) == 3 and not any("${{" in script for script in scripts)
    named = re.findall(r"\$GITHUB_ACTION_PATH/([\w./-]+)", " ".join(scripts))
    assert all((ROOT / name).is_file() for name in named)


def act(shell: Shell, **variables: str) -> subprocess.CompletedProcess[str]:
    """The action's check."""
    temporary = shell.folder.parent / "runner"
    temporary.mkdir(exist_ok=True)
    (temporary / "output").unlink(missing_ok=True)
    given = {"PATTERNS": "edits/*.toml\n", "VERIFY": "no", "RUNNER_TEMP": str(temporary)}
    given |= {"GITHUB_OUTPUT": str(temporary / "output")} | variables
    return shell("bash", ROOT / ".github" / "action" / "check.sh", **given)


def reported(shell: Shell) -> Path | None:
    """The folder of the reports, as later steps of the action find it."""
    output = shell.folder.parent / "runner" / "output"
    if not output.exists():
        return None
    (line,) = output.read_text().splitlines()
    report = Path(line.removeprefix("report="))
    assert report.is_relative_to(shell.folder.parent / "runner")
    return report


def report_of(shell: Shell) -> Path:
    report = reported(shell)
    assert report is not None
    return report


def test_the_action_checks_what_a_pull_request_changes(shell: Shell) -> None:
    edits = shell.folder / "edits"
    (edits / "gone.toml").write_text(MANIFEST)
    base = shell.commit("base")
    assert "No manifest to check." in act(shell, BASE=base).stdout and reported(shell) is None
    (edits / "deep").mkdir()
    (edits / "deep" / "er.toml").write_text(MANIFEST)
    (edits / "gone.toml").unlink()
    (shell.folder / "other.toml").write_text("no manifest")
    shell.commit("change")
    summary = shell.folder.parent / "step.md"
    assert act(shell, BASE=base, GITHUB_STEP_SUMMARY=str(summary)).returncode == 0
    assert rows(report_of(shell)) == {"edits/deep/er.toml": ("holds", "not drawn")}
    assert summary.read_text() == (report_of(shell) / "summary.md").read_text()
    assert act(shell).returncode == 0
    assert list(rows(report_of(shell))) == ["edits/blue-roses.toml", "edits/deep/er.toml"], (
        "without a base all are checked"
    )


def test_the_action_finds_the_base_of_a_shallow_checkout(shell: Shell, tmp_path: Path) -> None:
    base = shell.commit("base")
    (shell.folder / "edits" / "more.toml").write_text(MANIFEST)
    shell.commit("change")
    clone = Shell(tmp_path / "clone", shell.programs)
    shell.git("clone", "-q", "--depth=1", shell.folder.as_uri(), str(clone.folder))
    assert clone("git", "cat-file", "-e", base).returncode != 0
    assert act(clone, BASE=base).returncode == 0
    assert list(rows(report_of(clone))) == ["edits/more.toml"]


@pytest.mark.parametrize("wrong", [{"BASE": "f" * 40}, {"PATTERNS": " \n"}], ids=["no such base", "no pattern"])
def test_the_action_does_not_pass_where_it_cannot_look(shell: Shell, wrong: dict[str, str]) -> None:
    shell.commit("base")
    done = act(shell, **wrong)
    assert done.returncode != 0 and done.stderr and reported(shell) is None


def test_names_of_files_are_names_and_nothing_else(shell: Shell) -> None:
    base = shell.commit("base")
    for name in EVIL:
        (shell.folder / "edits" / name).write_text(MANIFEST)
    (shell.folder / "-top.toml").write_text(MANIFEST)
    shell.commit("names")
    done = act(shell, BASE=base, PATTERNS="edits/*.toml\n\n-top.toml\n")
    assert done.returncode == 0, done.stderr
    found = rows(report_of(shell))
    assert len(found) == len(EVIL) + 1 and set(found.values()) == {("holds", "not drawn")}
    assert not re.search(r"[`<>@$;]", "".join(found)) and not list(shell.folder.rglob("gone"))


@pytest.mark.parametrize("place", ["timecli-report", "timecli-report/.details.md", "timecli-report/edits", "report"])
def test_the_action_writes_through_no_link_of_the_checkout(place: str, shell: Shell) -> None:
    base = shell.commit("base")
    victim = shell.folder / "deploy.sh"
    victim.write_text("echo deployed\n")
    (shell.folder / "edits" / "x.toml").write_text("name = ")
    (shell.folder / place).parent.mkdir(exist_ok=True)
    (shell.folder / place).symlink_to(shell.folder if place.endswith(("report", "edits")) else victim)
    shell.git("add", "-f", ".")
    shell.commit("links")
    assert act(shell, BASE=base).returncode == 1
    assert rows(report_of(shell)) == {"edits/x.toml": ("**refused**", "not drawn")}
    assert victim.read_text() == "echo deployed\n" and shell.git("status", "--porcelain") == ""


@pytest.mark.parametrize("place", ["report", "report/edits", "report/summary.md", "report/edits/blue-roses.txt"])
def test_at_home_a_report_with_a_link_in_it_is_refused(place: str, shell: Shell) -> None:
    victim, planted = shell.folder / "deploy.sh", shell.folder / place
    victim.write_text("echo deployed\n")
    planted.parent.mkdir(parents=True, exist_ok=True)
    planted.symlink_to(victim if "." in place else shell.folder)
    before = sorted(shell.folder.rglob("*"))
    done = shell("bash", "check.sh")
    assert done.returncode == 2 and done.stderr == (
        "report is a link or holds one; remove it, or choose another folder with REPORT.\n"
    )
    assert victim.read_text() == "echo deployed\n" and sorted(shell.folder.rglob("*")) == before
    planted.unlink()
    assert shell("bash", "check.sh").returncode == 0, "the control"


def test_a_manifest_behind_a_link_is_not_read(shell: Shell) -> None:
    secret = shell.folder.parent / "secret"
    secret.mkdir()
    (secret / "x.toml").write_text("password = 'hunter2'\n")
    (shell.folder / "edits" / "far").symlink_to(secret, target_is_directory=True)
    (shell.folder / "edits" / "x.toml").symlink_to(secret / "x.toml")
    for name in ("edits/far/x.toml", "edits/x.toml"):
        done = shell("bash", "check.sh", name)
        said = done.stdout + done.stderr + (shell.folder / "report" / "summary.md").read_text()
        assert done.returncode == 1 and "this is a link, or behind one" in said and "password" not in said


def test_nothing_that_the_checkout_holds_is_run(shell: Shell) -> None:
    """With the program as pip installs it, of which Python looks for modules beside itself, and hooks of the clone."""
    base = shell.commit("base")
    shell.program("timecli", f'exec {shlex.quote(sys.executable)} "$(dirname -- "$0")/program.py" "$@"')
    (shell.programs / "program.py").write_text("from timecli.cli import main\nmain()\n")
    planted = f"open({str(shell.folder / 'gone')!r}, 'w')\n"
    for name in ("pip", "torch", "tomli", "typer", "json", "sitecustomize", "usercustomize"):
        (shell.folder / f"{name}.py").write_text(planted)
    for name in ("timecli", "pip"):
        (shell.folder / name).mkdir()
        (shell.folder / name / "__init__.py").write_text(planted)
        (shell.folder / name / "__main__.py").write_text(planted)
    (shell.folder / ".gitattributes").write_text("* diff=x filter=x\n")
    (shell.folder / "edits" / "x.toml").write_text(MANIFEST)
    shell.commit("change")
    for key in ("diff.x.textconv", "diff.x.command", "core.fsmonitor", "diff.external"):
        shell.git("config", key, "touch gone; false")
    done = act(shell, BASE=base)
    assert done.returncode == 0 and rows(report_of(shell)) == {"edits/x.toml": ("holds", "not drawn")}, done.stderr
    install = next(step["run"] for step in ACTION["runs"]["steps"] if step["name"] == "Install timecli")
    action = shell.folder.parent / "action"
    action.mkdir()
    shell.program("python", f'exec {shlex.quote(sys.executable)} "${{@/install/--version}}"')
    started = shell("bash", "-e", "-c", install.replace("--quiet", ""), GITHUB_ACTION_PATH=str(action), PYTHONPATH="")
    assert not (shell.folder / "gone").exists(), started.stderr
    shell("bash", "-c", "python -m pip install")
    assert (shell.folder / "gone").exists(), "the control: in the checkout Python would have run it"


def test_what_a_manifest_says_is_no_markdown_and_no_command_of_the_runner(shell: Shell) -> None:
    base = shell.commit("base")
    (shell.folder / "edits" / "x.toml").write_text(MANIFEST.replace('name = "x"', 'name = "::error::\\n```\\n# x"'))
    (shell.folder / "edits" / "link.toml").symlink_to("../.git/config")
    shell.commit("change")
    done = act(shell, BASE=base)
    first, *between, last = [line for line in done.stdout.splitlines() if line.startswith("::")]
    assert done.returncode == 1 and first == f"::stop-commands::{last.strip(':')}" and between == []
    said = (report_of(shell) / "summary.md").read_text()
    outside = [line for line in said.splitlines() if line and not line.startswith("    ")]
    assert all(line.startswith(("| ", "|---", "**edits/")) for line in outside)
    assert "error" in said and "[core]" not in said and "this is a link" in said


GH = """
printf '%s\\n' "$*" >> "$CALLS"
[[ $* == *--paginate* ]] && { cat "$COMMENTS"; exit "${DENIED:-0}"; }
last=${!#}
cp "${last#body=@}" "$CALLS.body"
"""


@pytest.mark.parametrize(
    "comments, wanted",
    [("", "POST repos/a/b/issues/7/comments"), ("5\t<!-- timecli: r -->\n", "PATCH repos/a/b/issues/comments/5")]
    + [("4\t<!-- timecli: other -->\n6\thello\n", "POST repos/a/b/issues/7/comments")],
    ids=["none yet", "ours", "of others"],
)
def test_there_is_one_comment(shell: Shell, tmp_path: Path, comments: str, wanted: str) -> None:
    shell.program("gh", GH)
    (tmp_path / "comments").write_text(comments)
    (tmp_path / "summary.md").write_text("| a |\n")
    calls = tmp_path / "calls"
    given = {"NAME": "r", "NUMBER": "7", "GITHUB_REPOSITORY": "a/b", "CALLS": str(calls)}
    given |= {"COMMENTS": str(tmp_path / "comments"), "SUMMARY": str(tmp_path / "summary.md")}
    script = ROOT / ".github" / "action" / "comment.sh"
    done = shell("bash", script, **given)
    assert done.returncode == 0 and "::warning::" not in done.stdout, done.stderr
    assert calls.read_text().splitlines()[-1].startswith(f"api --silent --method {wanted} -F body=@")
    assert Path(f"{calls}.body").read_text() == "<!-- timecli: r -->\n| a |\n"
    denied = shell("bash", script, **given, DENIED="1")
    assert denied.returncode == 0 and "::warning::" in denied.stdout
    assert shell("bash", script, **given | {"SUMMARY": "none"}).stdout == ""


def test_the_hook_validates_every_file_by_itself(shell: Shell) -> None:
    (shell.folder / "edits" / "broken.toml").write_text("name = ")
    entry, good = shlex.split(HOOK["entry"]), "edits/blue-roses.toml"
    both = shell(*entry, "edits/broken.toml", good)
    assert both.returncode == 1 and "blue-roses is valid" in both.stdout and "broken.toml" in both.stderr
    assert shell(*entry, good, good).returncode == 0
    chosen = [name for name in (good, "edits/sd/x.toml", "pyproject.toml") if re.search(HOOK["files"], name)]
    assert chosen == [good, "edits/sd/x.toml"]
