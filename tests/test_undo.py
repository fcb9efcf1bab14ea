"""An edit is taken back exactly, only by the delta that made it; where rounding stands in the way, that is said."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from timecli import cli
from timecli.editing import undo
from timecli.editing.delta import Delta, Origin
from timecli.editing.solve import Operator, apply, inverse
from timecli.files.tensors import raw
from timecli.models import carried, layouts, streams
from timecli.models.checkpoint import EDITS, open_checkpoint

from .conftest import PICTUREBOOK, ROSES, Run, ldm, small_tensors

NAMES = [ldm(matrix) for matrix in layouts.SD1.matrices]


def manifest(path: Path, name: str, source: str, colour: str, more: str = "") -> Path:
    """A manifest file of one edit."""
    edit = f'[preserve]\neveryday = false\n[[edit]]\nsource = "A {source}"\ndestination = "A {colour} {source}"\n'
    path.write_text(f'name = "{name}"\n[solve]\nlambda = 10\n{more}\n{edit}')
    return path


def metadata(path: Path) -> dict[str, str]:
    with safe_open(path, "pt") as file:
        return dict(file.metadata())


def distance(one: Path, other: Path, names: list[str] = NAMES) -> float:
    """‖A − B‖ / ‖B‖ over some tensors; all others must be equal."""
    a, b = load_file(one), load_file(other)
    assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a if name not in names)
    off = sum((a[name].double() - b[name].double()).square().sum() for name in names)
    return float((off / sum(b[name].double().square().sum() for name in names)) ** 0.5)


@pytest.mark.parametrize("strength", ["1", "-1"])
def test_undone_the_model_is_the_original(strength: str, run: Run, picturebook_fp32: Path, tmp_path: Path) -> None:
    """To 1e-6, whatever the strength, which is the record's; a negative strength is no undo and says so."""
    assert run("edit", ROSES, picturebook_fp32, "--delta", tmp_path / "d").code == 0
    made = run("apply", tmp_path / "d", picturebook_fp32, "-o", tmp_path / "b", "--strength", strength)
    assert made.code == 0 and ("--undo" in made.err) == (strength == "-1")
    done = run("apply", tmp_path / "d", tmp_path / "b", "--undo", "-o", tmp_path / "back", "--json")
    assert done.code == 0, done.err
    edited = distance(tmp_path / "b", picturebook_fp32)
    assert distance(tmp_path / "back", picturebook_fp32) < 1e-6 < 0.05 < edited
    assert json.loads(done.out)["blur"] < 1e-6 and "the original is back" in done.err
    opposite = "-1" if strength == "1" else "1"
    assert (
        run("apply", tmp_path / "d", tmp_path / "b", "--stack", "--strength", opposite, "-o", tmp_path / "x").code == 0
    )
    assert distance(tmp_path / "x", picturebook_fp32) > 0.1 * edited, "the control: adding once more is no undo"


def test_the_record_goes_and_the_title_is_the_originals(run: Run, picturebook: Path, tmp_path: Path) -> None:
    (tmp_path / "config").symlink_to(PICTUREBOOK / "config", target_is_directory=True)
    assert run("edit", ROSES, picturebook, "-o", tmp_path / "b.safetensors", "--delta", tmp_path / "d").code == 0
    assert EDITS in metadata(tmp_path / "b.safetensors")
    done = run(
        "apply", tmp_path / "d", tmp_path / "b.safetensors", "--undo", "-o", tmp_path / "c.safetensors", "--hash"
    )
    assert done.code == 0, done.err
    found = metadata(tmp_path / "c.safetensors")
    assert EDITS not in found and found["modelspec.title"] == "picturebook"
    assert not {"modelspec.merged_from", "sd_merge_recipe", "sd_merge_models"} & found.keys()
    assert "roses" not in json.dumps(found) and found["modelspec.hash_sha256"].startswith("0x")
    assert open_checkpoint(tmp_path / "c.safetensors").edits == []
    again = run("edit", ROSES, tmp_path / "c.safetensors", "-o", tmp_path / "again.safetensors")
    assert again.code == 0, "it counts as unedited"
    twice = run("apply", tmp_path / "d", tmp_path / "c.safetensors", "--undo", "-o", tmp_path / "e")
    assert twice.code == 2 and "it carries none" in twice.err and not (tmp_path / "e").exists()


def test_what_others_wrote_stays(run: Run, small: Path, tmp_path: Path) -> None:
    own = {"modelspec.title": "mine + theirs", "sd_merge_recipe": '{"type": "webui"}', "note": "kept"}
    save_file(load_file(small), tmp_path / "a", own)
    made = manifest(tmp_path / "m.toml", "red", "rose", "red")
    assert run("edit", made, tmp_path / "a", "-o", tmp_path / "b", "--delta", tmp_path / "d", "--hash").code == 0
    assert run("apply", tmp_path / "d", tmp_path / "b", "--undo", "-o", tmp_path / "c").code == 0
    found = metadata(tmp_path / "c")
    assert found["modelspec.title"] == "mine + theirs" and found["note"] == "kept"
    assert json.loads(found["sd_merge_recipe"]) == {"type": "webui"}, "with --hash it is known"


@pytest.fixture
def stacked(run: Run, small: Path, tmp_path: Path) -> Path:
    """Three edits one after the other: red and blue by two commands, green and red's own name again by one."""
    (tmp_path / "s").mkdir()
    for name, source in (("red", "rose"), ("blue", "tulip"), ("green", "car")):
        made = manifest(tmp_path / "s" / f"{name}.toml", name, source, name)
        assert run("edit", made, small, "--delta", tmp_path / "s" / name).code == 0
    for i, names in enumerate((["red"], ["blue", "green"])):
        before = tmp_path / "s" / f"{i}.safetensors" if i else small
        files = [tmp_path / "s" / name for name in names]
        after = tmp_path / "s" / f"{i + 1}.safetensors"
        assert run("apply", *files, before, "-o", after, "--stack", "--strength", 1 + i / 2).code == 0
    return tmp_path / "s"


def test_of_several_the_last_is_undone_first(stacked: Path, run: Run, small: Path, tmp_path: Path) -> None:
    edited, out = stacked / "2.safetensors", tmp_path / "out.safetensors"
    wrong = run("apply", stacked / "blue", edited, "--undo", "-o", out)
    assert wrong.code == 2 and "the delta 'blue' has another name than 'green' there" in wrong.err
    swapped = run("apply", stacked / "green", stacked / "blue", edited, "--undo", "-o", out)
    assert swapped.code == 2 and not out.exists()
    assert run("apply", stacked / "green", edited, "--undo", "-o", out).code == 0
    assert [entry["name"] for entry in open_checkpoint(out).edits] == ["red", "blue"]
    found = metadata(out)
    assert (found["modelspec.title"], found["modelspec.merged_from"]) == ("small + red + blue", "small + red")
    assert [step["name"] for step in json.loads(found["sd_merge_recipe"])["edits"]] == ["red", "blue"]
    assert run("apply", stacked / "blue", stacked / "green", edited, "--undo", "-o", out, "--force").code == 0
    assert distance(out, stacked / "1.safetensors") < 1e-4 and metadata(out)["modelspec.title"] == "small + red"
    every = [stacked / name for name in ("red", "blue", "green")]
    assert run("apply", *every, edited, "--undo", "-o", out, "--force").code == 0
    assert distance(out, small) < 1e-4 < 0.1 < distance(edited, small) and EDITS not in metadata(out)
    more = run("apply", *every, stacked / "red", edited, "--undo", "-o", tmp_path / "x")
    assert more.code == 2 and "it carries only 3" in more.err


@pytest.mark.parametrize("other", ["lambda", "manifest", "matrices", "no recipe"])
def test_another_delta_of_the_same_name_is_refused(other: str, run: Run, small: Path, tmp_path: Path) -> None:
    """Also where the file keeps no recipe: another operator has another norm."""
    made = manifest(tmp_path / "m.toml", "red", "rose", "red")
    options = ["--no-recipe"] if other == "no recipe" else []
    assert run("edit", made, small, "-o", tmp_path / "b", "--delta", tmp_path / "d", *options).code == 0
    if other == "lambda":
        made.write_text(made.read_text().replace("lambda = 10", "lambda = 11"))
    elif other == "matrices":
        manifest(made, "red", "rose", "red", 'matrices = ["v"]')
    else:
        manifest(made, "red", "rose", "dark red")
    assert run("edit", made, small, "--delta", tmp_path / "other").code == 0
    refused = run("apply", tmp_path / "other", tmp_path / "b", "--undo", "-o", tmp_path / "c")
    assert refused.code == 2 and "has another" in refused.err and not (tmp_path / "c").exists()
    assert run("apply", tmp_path / "d", tmp_path / "b", "--undo", "-o", tmp_path / "c").code == 0, "the control"


def test_moving_averages_are_undone_where_they_were_edited(run: Run, tmp_path: Path) -> None:
    tensors = small_tensors(rows=64)
    twins = {layouts.twins(m)[0]: tensors[ldm(m)] * 0.9 + 0.01 for m in layouts.SD1.matrices}
    save_file(tensors | twins, tmp_path / "a")
    made, every = manifest(tmp_path / "m.toml", "red", "rose", "red"), [*NAMES, *twins]
    assert run("edit", made, tmp_path / "a", "-o", tmp_path / "both", "--delta", tmp_path / "d").code == 0
    assert run("edit", made, tmp_path / "a", "-o", tmp_path / "one", "--leave-ema").code == 0
    assert run("apply", tmp_path / "d", tmp_path / "both", "--undo", "-o", tmp_path / "x").code == 0
    assert distance(tmp_path / "x", tmp_path / "a", every) < 1e-5
    assert distance(tmp_path / "both", tmp_path / "a", every) > 0.1, "the control"
    refused = run("apply", tmp_path / "d", tmp_path / "both", "--undo", "-o", tmp_path / "y", "--leave-ema")
    assert refused.code == 2 and "leave out --leave-ema" in refused.err
    refused = run("apply", tmp_path / "d", tmp_path / "one", "--undo", "-o", tmp_path / "y")
    assert refused.code == 2 and "use --leave-ema again" in refused.err and not (tmp_path / "y").exists()
    assert run("apply", tmp_path / "d", tmp_path / "one", "--undo", "-o", tmp_path / "y", "--leave-ema").code == 0
    assert distance(tmp_path / "y", tmp_path / "a") < 1e-5


def test_in_fp16_it_says_how_near_the_original_comes(run: Run, picturebook: Path, tmp_path: Path) -> None:
    """A strong edit squeezes text space, and what rounding took comes back larger: 0.02 % at λ = 10, 1 % at 0.1."""
    found = {}
    for lam in (10, 0.1, 1e-4):
        text = ROSES.read_text().replace("lambda = 10", f"lambda = {lam}")
        (tmp_path / "m.toml").write_text(text)
        assert lam == 10 or text != ROSES.read_text()
        folder = tmp_path / str(lam)
        folder.mkdir()
        (folder / "config").symlink_to(PICTUREBOOK / "config", target_is_directory=True)
        made = run("edit", tmp_path / "m.toml", picturebook, "-o", folder / "b", "--delta", folder / "d")
        assert made.code == 0, made.err
        found[lam] = run("apply", folder / "d", folder / "b", "--undo", "-o", folder / "c", "--json")
    assert "warning" not in found[10].err and "to about 1.3%" in found[0.1].err
    for lam in (10, 0.1):
        off = distance(tmp_path / str(lam) / "c", picturebook)
        assert off == pytest.approx(json.loads(found[lam].out)["blur"], rel=0.25)
    assert found[1e-4].code == 2 and "would come back with an error of" in found[1e-4].err
    assert not (tmp_path / "0.0001" / "c").exists()


@pytest.mark.parametrize("large", [3, 5], ids=["where it writes", "where it reads"])
def test_the_error_that_is_told_is_the_one_that_is_made(large: int, small: Path, tmp_path: Path) -> None:
    """Of an edit that reads one direction and writes to another, where rounding took most of one of the two."""
    left, right = (torch.eye(64)[:, [column]] for column in (3, 5))
    delta = Delta({"text": Operator(-40 * left, right.T, 1.0)}, Origin("x", "", "0", "", (1.0,), ("k", "v"), None, ()))
    back = replace(delta, operators={"text": inverse(delta.operator)})
    tensors = load_file(small)
    for name in NAMES:
        tensors[name][:, large] *= 100
    edited = {name: apply(tensors[name], delta.operator).half() for name in NAMES}
    save_file(tensors, tmp_path / "a")
    save_file(tensors | edited, tmp_path / "b")
    save_file(tensors | {name: apply(edited[name], back.operator).float() for name in NAMES}, tmp_path / "c")
    blur = undo.blur(open_checkpoint(tmp_path / "b"), [back])
    assert blur == pytest.approx(distance(tmp_path / "c", tmp_path / "a"), rel=0.1)


def test_a_copy_in_another_dtype_is_undone_by_the_delta_that_made_it(run: Run, small: Path, tmp_path: Path) -> None:
    """Its text encoder was rounded, too, and an edit that is taken back reads no text."""
    made, back = tmp_path / "made.safetensors", tmp_path / "back.safetensors"
    path, recipe = manifest(tmp_path / "m.toml", "blue", "rose", "blue"), tmp_path / "d"
    assert run("edit", path, small, "-o", made, "--delta", recipe, "--dtype", "bf16").code == 0
    again = run("apply", recipe, made, "--stack", "-o", back)
    assert again.code == 2 and "compiled for another text encoder" in again.err, "the control: another edit does"
    done = run("apply", recipe, made, "--undo", "-o", back)
    assert done.code == 0, done.err
    before, after = load_file(small), load_file(back)
    off, way = (
        sum(float((one[name].double() - before[name].double()).square().sum()) for name in NAMES)
        for one in (after, load_file(made))
    )
    assert off < 1e-2 * way


def test_an_edit_of_some_maps_is_taken_back_from_these(run: Run, small: Path, tmp_path: Path) -> None:
    made = manifest(tmp_path / "m.toml", "red", "rose", "red", 'matrices = ["v"]\nlayers = [0, 3]')
    assert run("edit", made, small, "-o", tmp_path / "b", "--delta", tmp_path / "d").code == 0
    done = run("apply", tmp_path / "d", tmp_path / "b", "--undo", "-o", tmp_path / "c")
    assert done.code == 0, done.err
    values = [ldm(matrix) for matrix in layouts.SD1.matrices if matrix.kind == "v" and matrix.layer in (0, 3)]
    assert distance(tmp_path / "c", small, values) < 1e-5 < 0.1 < distance(tmp_path / "b", small, values)


def test_a_folder_in_place(run: Run, picturebook_folder: Path, tmp_path: Path) -> None:
    assert run("edit", ROSES, picturebook_folder, "-o", tmp_path / "m", "--delta", tmp_path / "d").code == 0
    assert run("apply", tmp_path / "d", tmp_path / "m", "--undo", "--in-place").code == 0
    unet = Path("unet") / "diffusion_pytorch_model.safetensors"
    names = [matrix.names[streams.DIFFUSERS] for matrix in layouts.SD1.matrices]
    assert distance(tmp_path / "m" / unet, picturebook_folder / unet, names) < 1e-6
    assert open_checkpoint(tmp_path / "m").edits == []


def test_what_is_gone_cannot_be_taken_back(run: Run, small: Path, tmp_path: Path) -> None:
    """At a strength of −1 over an eigenvalue of D, a direction of text space becomes zero."""
    made = manifest(tmp_path / "m.toml", "red", "rose", "red")
    assert run("edit", made, small, "-o", tmp_path / "b", "--delta", tmp_path / "d").code == 0
    tensors, about = load_file(tmp_path / "b"), metadata(tmp_path / "b")
    factors = load_file(tmp_path / "d")
    values = torch.linalg.eigvals(factors["right"].double() @ factors["left"].double())
    value = float(values[values.imag.abs() < 1e-9].real.min())
    for strength, sentence in ((-1 / value, "leaves nothing"), ("x", "damaged record")):
        records = json.loads(about[EDITS])
        records[0]["strength"] = strength
        save_file(tensors, tmp_path / "c", {**about, EDITS: json.dumps(records)})
        done = run("apply", tmp_path / "d", tmp_path / "c", "--undo", "-o", tmp_path / "x")
        assert done.code == 2 and sentence in done.err, done.err


def test_the_strength_is_the_records(run: Run, small: Path, tmp_path: Path) -> None:
    made = manifest(tmp_path / "m.toml", "red", "rose", "red")
    assert run("edit", made, small, "-o", tmp_path / "b", "--delta", tmp_path / "d").code == 0
    done = run("apply", tmp_path / "d", tmp_path / "b", "--undo", "-o", tmp_path / "x", "--strength", "0.5")
    assert done.code == 2 and "leave out --strength" in done.err


def test_an_average_in_a_folder_of_its_own(run: Run, picturebook_folder: Path, tmp_path: Path) -> None:
    """Left when the edit was made, it is left when the edit is taken back."""
    model = Path(shutil.copytree(picturebook_folder, tmp_path / "m"))
    shutil.copytree(model / "unet", model / "unet_ema")
    assert run("edit", ROSES, model, "--in-place", "--leave-ema").code == 0
    assert run("edit", ROSES, picturebook_folder, "--delta", tmp_path / "d").code == 0
    refused = run("apply", tmp_path / "d", model, "--undo", "--in-place")
    assert refused.code == 2 and "or use --leave-ema" in refused.err
    assert run("apply", tmp_path / "d", model, "--undo", "--in-place", "--leave-ema").code == 0
    file, names = "diffusion_pytorch_model.safetensors", [m.names[streams.DIFFUSERS] for m in layouts.SD1.matrices]
    assert distance(model / "unet" / file, picturebook_folder / "unet" / file, names) < 1e-6
    assert (model / "unet_ema" / file).read_bytes() == (picturebook_folder / "unet" / file).read_bytes()


@pytest.mark.parametrize(
    ("other", "what"),
    [
        ('matrices = ["v"]', "choice of matrices"),
        ("layers = [0, 1, 2]", "choice of layers"),
        ('matrices = ["k"]\nlayers = [3]', "choice of matrices"),
    ],
)
def test_a_delta_for_other_maps_takes_nothing_back_even_without_a_recipe(
    other: str, what: str, run: Run, picturebook: Path, tmp_path: Path
) -> None:
    """D is the same for all maps, so that its norm tells nothing of which were edited."""
    (tmp_path / "config").symlink_to(PICTUREBOOK / "config", target_is_directory=True)
    for name, more in (("whole", ""), ("part", other)):
        made = manifest(tmp_path / f"{name}.toml", "roses", "rose", "blue", more)
        assert run("edit", made, picturebook, "--delta", tmp_path / name).code == 0
    edited = tmp_path / "edited.safetensors"
    assert run("apply", tmp_path / "whole", picturebook, "--no-recipe", "-o", edited).code == 0
    done = run("apply", tmp_path / "part", edited, "--undo", "-o", tmp_path / "back.safetensors")
    assert done.code == 2 and f"has another {what} than" in done.err and not (tmp_path / "back.safetensors").exists()
    right = run("apply", tmp_path / "whole", edited, "--undo", "-o", tmp_path / "back.safetensors")
    assert right.code == 0, "the control"


def test_another_operator_of_the_same_size_takes_nothing_back(run: Run, picturebook_fp32: Path, tmp_path: Path) -> None:
    assert run("edit", ROSES, picturebook_fp32, "--delta", tmp_path / "d").code == 0
    assert run("apply", tmp_path / "d", picturebook_fp32, "-o", tmp_path / "edited").code == 0
    tensors = load_file(tmp_path / "d")
    save_file({**tensors, "left": tensors["left"].flip(0).contiguous()}, tmp_path / "forged", metadata(tmp_path / "d"))
    done = run("apply", tmp_path / "forged", tmp_path / "edited", "--undo", "-o", tmp_path / "back")
    assert done.code == 2 and "has another operator than" in done.err and not (tmp_path / "back").exists()
    again = {name: tensor * (1 + 1e-6) for name, tensor in tensors.items()}
    save_file(again, tmp_path / "again", metadata(tmp_path / "d"))
    right = run("apply", tmp_path / "again", tmp_path / "edited", "--undo", "-o", tmp_path / "back")
    assert right.code == 0, "the control: compiled elsewhere, its last digits differ"


def test_a_record_that_a_merge_copied_is_not_true_and_nothing_is_taken_back(
    run: Run, picturebook_fp32: Path, tmp_path: Path
) -> None:
    """Mergers copy the first file's metadata: half of this model is another one."""
    assert run("edit", ROSES, picturebook_fp32, "--delta", tmp_path / "d").code == 0
    edited, merged = tmp_path / "edited", tmp_path / "merged"
    assert run("apply", tmp_path / "d", picturebook_fp32, "-o", edited).code == 0
    assert "record: true of the tensors\n" in run("inspect", edited).out
    tensors = {name: tensor * (0.9 if name in NAMES else 1) for name, tensor in load_file(edited).items()}
    save_file(tensors, merged, metadata(edited))
    seen = run("inspect", merged)
    assert "record: not true of the tensors\n" in seen.out and "its tensors are not those that were written" in seen.err
    done = run("apply", tmp_path / "d", merged, "--undo", "-o", tmp_path / "back")
    assert done.code == 2 and "its tensors are not those that were written" in done.err
    assert not (tmp_path / "back").exists() and done.err.count("\n") == 1


def test_a_record_without_a_hash_says_nothing_of_the_tensors(run: Run, picturebook_fp32: Path, tmp_path: Path) -> None:
    assert run("edit", ROSES, picturebook_fp32, "-o", tmp_path / "edited", "--delta", tmp_path / "d").code == 0
    about = metadata(tmp_path / "edited")
    (record,) = json.loads(about[EDITS])
    old = {key: value for key, value in record.items() if key not in ("made", "matrices", "layers", "streams")}
    save_file(load_file(tmp_path / "edited"), tmp_path / "old", {**about, EDITS: json.dumps([old])})
    assert "record: says nothing of the tensors\n" in run("inspect", tmp_path / "old").out
    done = run("apply", tmp_path / "d", tmp_path / "old", "--undo", "-o", tmp_path / "back")
    assert done.code == 0 and "if nothing changed the file after the edit" in done.err
    assert "the original is back" not in done.err, "that is not known"
    again = run("apply", tmp_path / "d", tmp_path / "edited", "--undo", "-o", tmp_path / "known")
    assert "the original is back" in again.err, "the control"


@pytest.fixture(scope="module")
def merged(picturebook_fp32: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an edited model, its delta, and a merge of it with another model, under its record."""
    folder = tmp_path_factory.mktemp("merged")
    made = manifest(folder / "m.toml", "rose", "rose", "blue")
    with pytest.raises(SystemExit):
        cli.main(["edit", *map(str, (made, picturebook_fp32, "-o", folder / "edited", "--delta", folder / "d"))])
    tensors = {name: tensor * (0.9 if name in NAMES else 1) for name, tensor in load_file(folder / "edited").items()}
    save_file(tensors, folder / "merged", metadata(folder / "edited"))
    (folder / "config").symlink_to(picturebook_fp32.parent / "config", target_is_directory=True)
    return folder


NOT_ITS = "says that it was edited with 'rose', and its tensors are not those that were written"


@pytest.mark.parametrize("command", ["edit", "plan", "verify", "apply"])
def test_a_model_is_refused_for_the_edit_that_its_tensors_have_and_not_for_a_record_alone(
    command: str, merged: Path, run: Run, tmp_path: Path
) -> None:
    given = merged / "d" if command == "apply" else merged / "m.toml"
    more = [] if command == "plan" else ["-o", tmp_path / "out"]
    for model, said in (("merged", NOT_ITS), ("edited", "already carries a timecli edit ('rose')")):
        done = run(command, given, merged / model, *more)
        assert done.code == 2 and done.err.count("\n") == 1 and said in done.err, done.err


def test_a_stacked_edit_says_what_it_is_made_to_and_makes_no_record_true(
    merged: Path, run: Run, tmp_path: Path
) -> None:
    """The last record is true of the tensors and can be undone; the first is not, whatever lies on top of it."""
    made = manifest(tmp_path / "p.toml", "pig", "pig", "green")
    out, delta = tmp_path / "out", tmp_path / "p.delta"
    done = run("edit", made, merged / "merged", "--stack", "-o", out, "--delta", delta)
    assert done.code == 0 and NOT_ITS in done.err and "they are edited as they are" in done.err
    assert NOT_ITS in run("apply", delta, merged / "merged", "--stack", "-o", tmp_path / "again").err
    fine = run("edit", made, merged / "edited", "--stack", "-o", tmp_path / "fine")
    assert fine.code == 0 and "not those that were written" not in fine.err, "the control"
    assert carried.held(open_checkpoint(out)) == [False, True]
    assert carried.held(open_checkpoint(tmp_path / "fine")) == [True, True], "the control"
    seen = run("inspect", out)
    assert "record: not true of the tensors" in seen.out and NOT_ITS in seen.err
    both = run("apply", "--undo", merged / "d", delta, out, "-o", tmp_path / "none")
    assert both.code == 2 and NOT_ITS in both.err
    back = run("apply", "--undo", delta, out, "-o", tmp_path / "back")
    assert back.code == 0 and carried.held(open_checkpoint(tmp_path / "back")) == [False], back.err


def test_diff_says_which_of_two_records_is_not_true(merged: Path, run: Run) -> None:
    done = run("diff", merged / "edited", merged / "merged")
    assert done.code == 0 and f"{merged / 'merged'} {NOT_ITS}" in done.err
    assert f"{merged / 'edited'} says" not in done.err, "the control"


def test_edits_of_one_go_are_true_together_and_stay_so_when_some_are_undone(
    run: Run, picturebook_fp32: Path, tmp_path: Path
) -> None:
    deltas = []
    for name, value in (("rose", "blue"), ("pig", "green"), ("dog", "red")):
        deltas.append(tmp_path / f"{name}.delta")
        made = manifest(tmp_path / f"{name}.toml", name, name, value)
        assert run("edit", made, picturebook_fp32, "--delta", deltas[-1]).code == 0
    assert run("apply", *deltas, picturebook_fp32, "--stack", "-o", tmp_path / "all").code == 0
    assert run("apply", "--undo", deltas[2], tmp_path / "all", "-o", tmp_path / "two").code == 0
    assert run("apply", deltas[2], tmp_path / "two", "--stack", "-o", tmp_path / "again").code == 0
    for name, count in (("all", 3), ("two", 2), ("again", 3)):
        assert carried.held(open_checkpoint(tmp_path / name)) == [True] * count, name


def test_a_hash_needs_no_torch(picturebook_fp32: Path) -> None:
    checkpoint, digest = open_checkpoint(picturebook_fp32), hashlib.sha256()
    for _, tensor in checkpoint.projections(twins=False):
        digest.update(raw(tensor))
    assert carried.base_hash(checkpoint) == digest.hexdigest()
    code = (
        "import sys; from pathlib import Path; from timecli.models import carried, checkpoint;"
        f"carried.base_hash(checkpoint.open_checkpoint(Path({str(picturebook_fp32)!r})));"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("more", [[], ["--dtype", "fp16"], ["--leave-ema"]])
def test_the_record_is_true_of_what_was_written_also_behind_another_edit_and_without_it(
    more: list[str], run: Run, picturebook_fp32: Path, tmp_path: Path
) -> None:
    for name, value in (("rose", "blue"), ("pig", "green")):
        made = manifest(tmp_path / f"{name}.toml", name, name, value)
        assert run("edit", made, picturebook_fp32, "--delta", tmp_path / f"{name}.delta").code == 0
    assert run("apply", tmp_path / "rose.delta", picturebook_fp32, "-o", tmp_path / "one", *more).code == 0
    assert run("apply", tmp_path / "pig.delta", tmp_path / "one", "--stack", "-o", tmp_path / "two", *more).code == 0
    ema = [option for option in more if option == "--leave-ema"]
    assert run("apply", tmp_path / "pig.delta", tmp_path / "two", "--undo", "-o", tmp_path / "back", *ema).code == 0
    for name in ("one", "two", "back"):
        assert carried.holds(open_checkpoint(tmp_path / name)), name
    assert [record["name"] for record in open_checkpoint(tmp_path / "back").edits] == ["rose"]


def test_an_undo_that_gives_the_same_maps_says_so(run: Run, picturebook_fp32: Path, tmp_path: Path) -> None:
    """Strength 0 changes nothing, and nothing is what is taken back."""
    assert run("edit", ROSES, picturebook_fp32, "--delta", tmp_path / "d").code == 0
    assert run("apply", tmp_path / "d", picturebook_fp32, "--strength", "0", "-o", tmp_path / "same").code == 0
    done = run("apply", tmp_path / "d", tmp_path / "same", "--undo", "-o", tmp_path / "back")
    assert done.code == 0 and "the original's maps are back, bit for bit" in done.err
    assert distance(tmp_path / "back", picturebook_fp32) == 0
