"""The whole flow through the command line, as a person would use it."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from timecli.files.safefile import open_file
from timecli.models import layouts

from .conftest import PICTUREBOOK, ROSES, Run, ldm, small_manifest

SMALL = 'name = "blue"\n[[edit]]\nsource = "A pack of roses"\ndestination = "A pack of blue roses"\n'


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    (tmp_path / "blue.toml").write_text(SMALL)
    return tmp_path / "blue.toml"


def test_edit_writes_the_default_name_in_this_folder(
    run: Run, picturebook: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run("edit", ROSES, picturebook)
    assert done.code == 0, done.err
    assert [path.name for path in tmp_path.iterdir()] == ["picturebook-blue-roses-plain.safetensors"]
    for expected in ("32 matrices changed", "lambda 10", "of the way to"):
        assert expected in done.out
    assert len(done.out.splitlines()) <= 6
    verbose = run("edit", ROSES, picturebook, "-o", tmp_path / "x", "--verbose").out
    (tmp_path / "x").unlink()
    assert all(word in verbose for word in ("rank", "condition", "seconds: ", "attn2.to_k.weight"))
    before, after = load_file(picturebook), load_file(tmp_path / "picturebook-blue-roses-plain.safetensors")
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {ldm(matrix) for matrix in layouts.SD1.matrices}


@pytest.mark.parametrize("form", ["fp16", "fp32", "folder"])
def test_edit_is_delta_and_apply_byte_for_byte(
    run: Run, form: str, picturebook: Path, picturebook_fp32: Path, picturebook_folder: Path, tmp_path: Path
) -> None:
    model = {"fp16": picturebook, "fp32": picturebook_fp32, "folder": picturebook_folder}[form]
    assert run("edit", ROSES, model, "-o", tmp_path / "a").code == 0
    assert run("edit", ROSES, model, "-o", tmp_path / "b").code == 0
    assert run("edit", ROSES, model, "--delta", tmp_path / "x.delta").code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "x.delta"]
    assert run("apply", tmp_path / "x.delta", model, "-o", tmp_path / "c").code == 0
    assert run("apply", tmp_path / "x.delta", model, "-o", tmp_path / "half", "--strength", "0.5").code == 0
    contents = [_content(tmp_path / name) for name in ("a", "b", "c", "half")]
    assert contents[0] == contents[1] == contents[2] != contents[3]


def _content(path: Path) -> dict[str, bytes]:
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    return {str(file.relative_to(path)): file.read_bytes() for file in files}


def test_a_single_sd1_file_needs_no_config_and_no_network(
    run: Run, small: Path, manifest: Path, tmp_path: Path
) -> None:
    done = run("edit", manifest, small, "-o", tmp_path / "out.safetensors", "--delta", tmp_path / "x.delta", "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert len(found["changed"]) == 32 and found["width"] == 64 and found["moved"][0] < 1
    assert found["written"] == [str(tmp_path / "out.safetensors"), str(tmp_path / "x.delta")]


def test_dtype(run: Run, picturebook: Path, tmp_path: Path) -> None:
    assert run("edit", ROSES, picturebook, "-o", tmp_path / "out", "--dtype", "fp32").code == 0
    assert {entry["dtype"] for entry in open_file(tmp_path / "out").entries.values()} - {"I64"} == {"F32"}


def test_plan_shows_the_pairing(run: Run, picturebook: Path) -> None:
    assert "valid" in run("plan", ROSES).out
    done = run("plan", ROSES, picturebook, "--pairs")
    assert done.code == 0, done.err
    rows = [line.split("│")[1:-1] for line in done.out.splitlines() if "│" in line]
    assert ["4", "roses", "roses", "5"] in [[cell.strip() for cell in row] for row in rows]


def test_inspect(run: Run, picturebook: Path, tmp_path: Path) -> None:
    run("edit", ROSES, picturebook, "-o", tmp_path / "out", "--delta", tmp_path / "x.delta")
    plain = json.loads(run("inspect", picturebook, "--json").out)
    edited = json.loads(run("inspect", tmp_path / "out", "--json").out)
    delta = json.loads(run("inspect", tmp_path / "x.delta", "--json").out)
    assert (plain["form"], plain["edits"], plain["cross_attention_matrices"]) == ("single file", [], 32)
    (record,) = edited["edits"]
    assert record["manifest"] == ROSES.read_text() == delta["manifest"] and record["lambdas"] == [10.0]
    assert record["encoder"] == delta["encoder"] and len(record["base"]) == 64
    assert (delta["width"], delta["version"]) == (192, record["version"])
    people = run("inspect", tmp_path / "out").out
    assert "source = " in people and f"copy of the network: plain, whole, {tmp_path / 'out'}\n" in people
    people += run("inspect", tmp_path / "x.delta").out
    assert "\nlayers: all\n" in people and "\naverages: yes\n" in people
    assert not any(mark in people for mark in ("{'", "[{", ": None", ": True")), "nothing as Python writes it"
    assert edited["copies"][0]["form"] == "whole"


def test_an_edited_model_is_edited_again_only_when_asked(run: Run, picturebook: Path, tmp_path: Path) -> None:
    config = ("--config", PICTUREBOOK / "config")
    run("edit", ROSES, picturebook, "-o", tmp_path / "once")
    refused = run("edit", ROSES, tmp_path / "once", *config, "-o", tmp_path / "twice")
    assert refused.code == 2 and "already carries a timecli edit ('blue-roses-plain')" in refused.err
    assert run("plan", ROSES, tmp_path / "once", *config).code == 2
    assert run("edit", ROSES, tmp_path / "once", *config, "-o", tmp_path / "twice", "--stack").code == 0
    assert len(json.loads(run("inspect", tmp_path / "twice", "--json").out)["edits"]) == 2


BAD = {
    # name -> (arguments, what stderr must say); {m} manifest, {p} picturebook, {t} a temporary folder
    "no manifest": ("edit {t}/none.toml {p} -o {t}/out", "none.toml cannot be read: No such file"),
    "not toml": ("edit {t}/bad.toml {p} -o {t}/out", "bad.toml is not valid TOML"),
    "no model": ("edit {m} {t}/none.safetensors -o {t}/out", "does not exist"),
    "pickle": ("edit {m} {t}/model.ckpt -o {t}/out", "is a pickle"),
    "truncated": ("edit {m} {t}/cut.safetensors -o {t}/out", "not a complete safetensors file"),
    "other model": ("edit {m} {t}/other.safetensors -o {t}/out", "has no map that reads text"),
    "no tokenizer": ("edit {m} {t}/alone.safetensors -o {t}/out", "give its own with --tokenizer or --config"),
    "output exists": ("edit {m} {p} -o {t}/bad.toml", "already exists; use --force"),
    "output is input": ("edit {m} {t}/alone.safetensors --config {c} -o {t}/alone.safetensors --force", "is an input"),
    "no folder": ("edit {m} {p} -o {t}/no/out", "is not a folder; create it first"),
    "same outputs": ("edit {m} {p} -o {t}/out --delta {t}/out", "choose two names"),
    "too long": ("edit {t}/long.toml {p} -o {t}/out", "tokens and the text encoder reads 77"),
    "nothing in common": ("edit {t}/apart.toml {p} -o {t}/out", "no word in common"),
    "plan lists problems": ("plan {t}/apart.toml {p}", "no word in common"),
    "dtype": ("edit {m} {p} -o {t}/out --dtype int8", "--dtype int8 is not known; use keep, fp16, bf16, fp32"),
    "device": ("edit {m} {p} -o {t}/out --device cuda:99", "--device cuda:99 is not available here"),
    "not a delta": ("apply {p} {p} -o {t}/out", "is not a delta file"),
    "foreign delta": ("apply {t}/x.delta {s} -o {t}/out", "takes text of width 64"),
    "inspect nothing": ("inspect {t}/none", "does not exist"),
}  # fmt: skip


@pytest.fixture(scope="module")
def corner(picturebook: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corner")
    (folder / "bad.toml").write_text("name = ")
    long = SMALL.replace("A pack", "A pack " + "of roses " * 40)
    (folder / "long.toml").write_text(long)
    (folder / "apart.toml").write_text(SMALL.replace("A pack of blue roses", "Poppies"))
    (folder / "model.ckpt").write_bytes(b"\x80\x02}q\x00.")
    (folder / "cut.safetensors").write_bytes(picturebook.read_bytes()[:100_000])
    save_file({"a": torch.zeros(3)}, folder / "other.safetensors")
    shutil.copyfile(picturebook, folder / "alone.safetensors")
    return folder


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_sentence_and_exit_2(
    run: Run, name: str, corner: Path, manifest: Path, picturebook: Path, small: Path
) -> None:
    command, expected = BAD[name]
    if "x.delta" in command:
        assert run("edit", manifest, picturebook, "--delta", corner / "x.delta", "--force").code == 0
    before = sorted(corner.rglob("*"))
    places = {"m": manifest, "p": picturebook, "t": corner, "s": small, "c": PICTUREBOOK / "config"}
    done = run(*command.format(**places).split())
    assert done.code == 2 and expected in done.err
    assert done.err.startswith("timecli: ") and len(done.err.strip().splitlines()) == 1 and "Traceback" not in done.err
    assert sorted(corner.rglob("*")) == before, "nothing is left behind"


@pytest.mark.parametrize(
    ("option", "value", "sentence"),
    [
        ("--strength", "banana", "'banana' is not a number; see"),
        ("--strength", "11", "11.0 is not from 0 to 10; see"),
        ("--clip-skip", "1.5", "'1.5' is not a whole number; see"),
    ],
)
def test_numbers_are_spoken_of_as_people_do(run: Run, option: str, value: str, sentence: str) -> None:
    done = run("plan", "x.toml", option, value)
    assert done.code == 2 and sentence in done.err


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "timecli", "--debug", "plan", str(tmp_path / "none.toml")]
    assert "Traceback" in subprocess.run(command, capture_output=True, text=True).stderr


@pytest.mark.usefixtures("all_everyday_prompts")
def test_verify_writes_a_report_and_holds_the_edit_to_its_thresholds(
    run: Run, picturebook: Path, tmp_path: Path
) -> None:
    text = ROSES.read_text().split("[verify]")[0] + "[verify]\n"
    (tmp_path / "easy.toml").write_text(text + "efficacy = 0.0\n")
    (tmp_path / "hard.toml").write_text(text + "efficacy = 1.0\ngenerality = 1.0\nspecificity = 1.0\nworst = 1.0\n")
    options = ("--steps", "1", "--seeds")
    easy = run("verify", tmp_path / "easy.toml", picturebook, "-o", tmp_path / "easy", *options, "2", "--json")
    assert easy.code == 0, easy.err
    assert sorted(path.name for path in (tmp_path / "easy").iterdir()) == [
        "report.html",
        "report.json",
        "report.md",
        "sheet.png",
    ]
    found = json.loads(easy.out)
    assert found == json.loads((tmp_path / "easy" / "report.json").read_text())
    kinds = [row["kind"] for row in found["prompts"]]
    assert kinds.count("everyday") == 8 and all(-1 <= row["likeness"] <= 1.001 for row in found["prompts"])
    assert all((row["forecast"] is None) == (row["destination"] is None) for row in found["prompts"])
    assert set(found["scores"]) == {"baseline", "oracle", "edited", "another seed"} and found["seeds"] == [0, 1]
    hard = run("verify", tmp_path / "hard.toml", picturebook, "-o", tmp_path / "hard", *options, "1")
    assert hard.code == 1 and "below the 100.0% that blue-roses-plain asks for" in hard.err
    assert "changes most: preserve it by name, or list it as a positive if it may follow" in hard.err
    assert (tmp_path / "hard" / "sheet.png").exists()
    again = run("verify", tmp_path / "hard.toml", picturebook, "-o", tmp_path / "hard", *options, "1")
    assert again.code == 2 and "report.html already exists" in again.err


def test_verify_takes_a_delta_or_an_edited_model_or_makes_the_edit(run: Run, picturebook: Path, tmp_path: Path) -> None:
    manifest = small_manifest(tmp_path)
    run("edit", manifest, picturebook, "-o", tmp_path / "out", "--delta", tmp_path / "x.delta")
    sheets = []
    for name, edited in (("memory", []), ("delta", [tmp_path / "x.delta"]), ("file", [tmp_path / "out"])):
        done = run("verify", manifest, picturebook, *edited, "-o", tmp_path / name, "--seeds", "1", "--steps", "2")
        assert done.code == 0, done.err
        sheets.append((tmp_path / name / "sheet.png").read_bytes())
    assert sheets[0] == sheets[1] == sheets[2]
    config = ("--config", PICTUREBOOK / "config", "-o", tmp_path / "other", "--seeds", "1", "--steps", "1")
    twice = run("verify", manifest, tmp_path / "out", *config)
    assert twice.code == 2 and "already carries a timecli edit" in twice.err


def test_verify_refuses_a_copy_of_another_model(run: Run, picturebook: Path, tmp_path: Path) -> None:
    tensors = load_file(picturebook)
    name = ldm(layouts.SD1.matrices[0])
    save_file({**tensors, name: tensors[name] + 1}, tmp_path / "other.safetensors")
    run("edit", ROSES, tmp_path / "other.safetensors", "--config", PICTUREBOOK / "config", "-o", tmp_path / "out")
    done = run("verify", ROSES, picturebook, tmp_path / "out", "-o", tmp_path / "report")
    assert done.code == 2 and "was not made from" in done.err


def test_every_command_has_help(run: Run) -> None:
    for command in ("edit", "apply", "plan", "verify", "inspect", "schema"):
        assert f"{command} [OPTIONS]" in run(command, "--help").out
    assert run("--version").out.strip() == "0.1.0"


def test_help_is_short_to_ask_for_and_says_whole_sentences(run: Run) -> None:
    long, short = run("--help"), run("-h")
    assert (
        long.code == short.code == 0
        and long.out == short.out
        and "..." not in long.out.replace("COMMAND [ARGS]...", "")
    )
    assert "--install-completion" in long.out
    for command in ("edit", "plan", "verify"):
        assert run(command, "-h").out == run(command, "--help").out
