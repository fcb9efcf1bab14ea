"""Several manifests, one model: what each keeps, what is refused, and what the records say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file

from timecli.errors import ManifestError
from timecli.manifests import company, rows, words
from timecli.manifests.manifest import Manifest, load, parse
from timecli.models.checkpoint import open_checkpoint

from .conftest import FEW, PICTUREBOOK, Run

ROSES = 'name = "roses"\n[[edit]]\nsource = "A rose"\ndestination = "A blue rose"\n'
PIGS = 'name = "pigs"\n[[edit]]\nsource = "A pig"\ndestination = "A green pig"\n'


def written(folder: Path, **texts: str) -> list[Path]:
    for name, text in texts.items():
        (folder / f"{name}.toml").write_text(text)
    return [folder / f"{name}.toml" for name in texts]


def both(one: str, other: str) -> Manifest:
    return company.joined([parse(one), parse(other)])


def test_several_manifests_are_one_that_holds_them(run: Run, picturebook: Path, tmp_path: Path) -> None:
    """The same bytes as the one manifest; applied one after the other it is another model."""
    whole = 'name = "both"\n' + "".join(text.partition("\n")[2] for text in (ROSES, PIGS))
    files = written(tmp_path, roses=ROSES, pigs=PIGS, both=whole)
    out, one, stacked = (tmp_path / f"{name}.safetensors" for name in ("out", "one", "stacked"))
    assert run("edit", *files[:2], picturebook, "-o", out, "--delta", tmp_path / "d").code == 0
    assert run("edit", files[2], picturebook, "-o", one).code == 0
    a, b = load_file(out), load_file(one)
    assert all(a[name].equal(b[name]) for name in a)
    (tmp_path / "config").symlink_to(PICTUREBOOK / "config", target_is_directory=True)
    assert run("edit", files[0], picturebook, "-o", tmp_path / "first.safetensors").code == 0
    assert run("edit", files[1], tmp_path / "first.safetensors", "-o", stacked, "--stack").code == 0
    c = load_file(stacked)
    assert not all(a[name].equal(c[name]) for name in a), "the control"


def test_records_name_all_of_them_and_undo_takes_back_all(run: Run, picturebook_fp32: Path, tmp_path: Path) -> None:
    files = written(tmp_path, roses=ROSES, pigs=PIGS)
    out = tmp_path / "out.safetensors"
    assert run("edit", *files, picturebook_fp32, "-o", out, "--delta", tmp_path / "d").code == 0
    (record,) = open_checkpoint(out).edits
    assert record["name"] == "roses+pigs" and ROSES in record["manifest"] and PIGS in record["manifest"]
    done = run("apply", tmp_path / "d", out, "--undo", "-o", tmp_path / "back.safetensors")
    assert done.code == 0, done.err
    back, original = load_file(tmp_path / "back.safetensors"), load_file(picturebook_fp32)
    assert max(float((back[name] - tensor).abs().max()) for name, tensor in original.items()) < 2e-4
    assert open_checkpoint(tmp_path / "back.safetensors").edits == []


def test_each_keeps_its_strengths_lambdas_wordings_and_weights() -> None:
    one = both(
        ROSES + '[solve]\nlambda = 3\nstrength = 0.5\naugment = false\n[preserve]\nprompts = ["A tulip"]\nweight = 2\n',
        PIGS + '[solve]\nstrength = 1.2\n[preserve]\nprompts = ["A cow"]\neveryday_weight = 1\n',
    )
    rose, pig = one.edits
    assert (one.lam(rose), one.lam(pig)) == (3, 0.1) and (one.strength(rose), one.strength(pig)) == (0.5, 1.2)
    assert one.of(rose).templates == () and len(one.of(pig).templates) == 5
    found = {kept.prompt: (kept.weight, len(kept.templates)) for kept in company.preserved(one)}
    assert found == {"A tulip": (2 / 3, 0), "A cow": (10, 5)}


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (PIGS + '[solve]\ntokens = "prompt"\n', "pigs has another solve.tokens than roses"),
        (PIGS + "[preserve]\neveryday = false\n", "pigs has another preserve.everyday than roses"),
        (PIGS + '[preserve]\neveryday = "mine.txt"\n', "pigs has another preserve.everyday than roses"),
        (PIGS + '[solve]\nmatrices = ["v"]\nlayers = [1]\n', "another solve.matrices and solve.layers than roses"),
        (ROSES.replace("blue", "green").replace("roses", "more"), "roses edits 'A rose' to 'A blue rose' and more to"),
        (PIGS.replace("pigs", "roses"), "two manifests are called 'roses'"),
    ],
)
def test_what_a_joint_edit_has_once_must_be_the_same(other: str, said: str) -> None:
    with pytest.raises(ManifestError, match=said):
        both(ROSES, other)
    assert both(ROSES, PIGS).parts, "the control"


def test_a_prompt_that_another_manifest_edits_is_preserved_no_more(run: Run, picturebook: Path, tmp_path: Path) -> None:
    kept = '[preserve]\nprompts = ["A vase of roses", "A blue pig", "A tulip"]\n'
    task = both(ROSES, PIGS + kept)
    assert [one.prompt for one in company.preserved(task)] == ["A blue pig", "A tulip"]
    assert [prompt for prompt, _ in company.overruled(task)] == ["A vase of roses"]
    alone = company.joined([parse(PIGS + kept)])
    assert len(company.preserved(alone)) == 3, "the control: alone it is"
    done = run("plan", *written(tmp_path, roses=ROSES, pigs=PIGS + kept), picturebook)
    assert done.code == 0 and done.err.count("is not preserved") == 1 and "roses edits 'A rose'" in done.err


def test_what_another_pair_edits_is_no_negative() -> None:
    roses = ROSES + (
        'negatives = [{ prompt = "A sketch of pigs", destination = "A sketch of blue pigs" }, '
        '{ prompt = "A tulip", destination = "A blue tulip" }]\n'
        'explicit = [{ prompt = "A red rose", destination = "A blue rose" }]\n'
    )
    kinds = {row.prompt: (row.kind, row.counts) for row in rows.rows(both(roses, PIGS))}
    assert kinds["A sketch of pigs"] == ("told", False)
    assert kinds["A tulip"] == ("negative", True) and kinds["A red rose"] == ("explicit", True)
    alone = {row.prompt: row.kind for row in rows.rows(parse(roses))}
    assert alone["A sketch of pigs"] == "negative", "the control"


def test_a_threshold_that_no_prompt_measures_is_told() -> None:
    negative = 'negatives = [{{ prompt = "{}", destination = "{}" }}]\n[verify]\nspecificity = 0.9\n'
    roses = ROSES + negative.format("A pig", "A blue pig")
    together = both(roses, PIGS)
    (sentence,) = rows.untested(together, rows.rows(together))
    assert sentence == "specificity of roses is not measured: other pairs edit all its negative prompts."
    apart = both(ROSES + negative.format("A barn", "A blue barn"), PIGS)
    assert not rows.untested(apart, rows.rows(apart)), "the control"


def test_everyday_prompts_are_of_every_manifest_and_a_source_of_its_own() -> None:
    together = both(ROSES, PIGS)
    everyday = rows.Row("everyday", "A barn", None)
    table = [*rows.rows(together), everyday]
    for part, source in zip(together.parts, ("A rose", "A pig"), strict=True):
        found = rows.of_part(table, part, together)
        assert everyday in found and [row.prompt for row in found if row.kind == "source"] == [source]


@pytest.mark.parametrize(
    ("prompt", "source", "destination", "told"),
    [
        ("Hagrid", "Hagrid", "Blond Hagrid", True),
        ("A photo of Hagrid", "Hagrid", "Blond Hagrid", True),
        ("Severus Snape", "Hagrid", "Blond Hagrid", False),
        ("A vase of roses", "A pack of roses", "A pack of blue roses", True),
        ("A pack of dogs", "A pack of roses", "A pack of blue roses", False),
        ("Churches", "A church", "A church in the snow", True),
        ("A cartoon", "A car", "A red car", False),
    ],
)
def test_which_prompts_an_edit_is_about(prompt: str, source: str, destination: str, told: bool) -> None:
    (edit,) = parse(f'name = "x"\n[[edit]]\nsource = "{source}"\ndestination = "{destination}"\n').edits
    assert words.says_all(prompt, words.thing(edit)) == told


def test_plan_and_verify_take_several_and_hold_each_to_its_own_thresholds(
    run: Run, picturebook: Path, tmp_path: Path
) -> None:
    test = 'positives = [{ prompt = "A dog", destination = "A blue dog" }]\n'
    least = '[preserve]\neveryday = "few.txt"\n[verify]\nseeds = 1\nsteps = 2\nguidance = 3\n'
    (tmp_path / "few.txt").write_text(FEW)
    files = written(tmp_path, roses=ROSES + test + least + "generality = 0.99\n", pigs=PIGS + least + "efficacy = 0\n")
    planned = run("plan", *files, picturebook)
    assert planned.code == 1 and "that roses asks for" in planned.err and "that pigs" not in planned.err
    done = run("verify", *files, picturebook, "-o", tmp_path / "report", "--json")
    data = json.loads(done.out)
    assert done.code == 1 and [sentence for sentence in data["missed"] if "that roses asks for" in sentence]
    assert data["thresholds"] == {"roses generality": 0.99, "pigs efficacy": 0.0}
    assert run("plan", files[1], picturebook).code == 0, "the control"


def test_what_is_for_one_manifest_says_so(run: Run, picturebook: Path, tmp_path: Path) -> None:
    files = written(tmp_path, roses=ROSES, pigs=PIGS)
    fixed = run("plan", *files, picturebook, "--fix")
    assert fixed.code == 2 and "--fix writes into one manifest, and 2 are given" in fixed.err
    two = run("plan", files[0], picturebook, picturebook)
    assert two.code == 2 and "are two models" in two.err
    none = run("verify", *files)
    assert none.code == 2 and "MODEL" in none.err
    assert run("plan", *files).code == 0 and load(files[0]).parts == ()
