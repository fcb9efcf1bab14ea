"""What a bench draws follows from manifests and settings, in an order that never changes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from timecli.errors import ManifestError
from timecli.manifests import company
from timecli.manifests.keys import AUGMENTATIONS, Preserve, Solve
from timecli.manifests.manifest import Manifest, parse, with_strength
from timecli.measuring import schedule
from timecli.measuring.schedule import BASE, Configuration


def made(name: str, noun: str = "rose", more: str = "") -> Manifest:
    return parse(
        f'name = "{name}"\n[[edit]]\nsource = "A {noun}"\ndestination = "A blue {noun}"\nlambda = 3\n'
        f'positives = [{{ prompt = "Two {noun}s", destination = "Two blue {noun}s" }}]\n'
        f'negatives = [{{ prompt = "A dog", destination = "A blue dog" }}]\n{more}'
    )


BALANCE = '[balance]\ndescriptions = ["a blue rose", "a red rose"]\nvalidation = "A photo of a rose"\n'


def test_a_grid_is_the_product_of_its_values_for_the_methods_that_know_them() -> None:
    grid = {"lambda": [0.1, 10.0], "augment": [AUGMENTATIONS, ()], "eta": [1.0]}
    found = schedule.configurations(["time", "finetune", "uce"], grid, False)
    assert [c.name for c in found] == [
        "time λ=0.1 augmented",
        "time λ=0.1 plain",
        "time λ=10 augmented",
        "time λ=10 plain",
        "finetune η=1 augmented",
        "finetune η=1 plain",
        "uce",
    ]
    assert len({c.name for c in found}) == len(found)


def test_a_configuration_changes_what_it_names_and_nothing_else() -> None:
    before = made("x")
    after = Configuration(lam=0.5, matrices="v", augment=()).applied(before)
    assert after.lam(after.edits[0]) == 0.5 and after.solve.matrices == ("v",) and after.solve.augment == ()
    assert Configuration().applied(after) == after, "nothing"
    strong = with_strength(before, 1.5)
    assert Configuration("manifest").applied(strong) == strong != Configuration("time").applied(strong)
    assert before.preserve.everyday and not after.preserve.everyday, "the paper has none"
    named = replace(before, preserve=replace(before.preserve, prompts=("A dog",), everyday_weight=0.0))
    assert Configuration("time").applied(named).preserve == Preserve(everyday=False)
    assert Configuration("uce").applied(named).preserve.prompts == ("A dog",), "which UCE has"
    assert Configuration("everyday").applied(named).preserve == Preserve(prompts=("A dog",))
    assert Configuration("everyday", weight=2.0).applied(after).preserve == Preserve(everyday=True, everyday_weight=2.0)
    assert Configuration(augment=AUGMENTATIONS).applied(after).solve.augment == AUGMENTATIONS


def test_the_base_is_drawn_once_for_all_and_asked_everything() -> None:
    manifests = [made("a"), made("b", "tulip")]
    work = schedule.jobs(manifests, schedule.configurations(["time"], {"lambda": [1.0, 2.0]}, False), False)
    batches = schedule.batches(manifests, work, seeds=24, at_once=64)
    base = [group for batch in batches if batch.model == BASE for group in batch.groups]
    assert len({group.prompt for group in base}) == len(base)
    questions = {group.prompt: group.questions for group in base}
    assert questions["A rose"] == questions["A blue rose"] == (("A rose", "A blue rose"),), "the oracle"
    assert questions["A dog"] == (("A dog", "A blue dog"),) and "A blue dog" not in questions
    edited = [batch for batch in batches if batch.model != BASE]
    assert [batch.model for batch in edited] == [f"time λ={lam}/{name}" for lam in "12" for name in "ab"]
    assert [group.prompt for group in edited[0].groups] == ["A rose", "Two roses", "A dog"]


def test_batches_fill_the_renderers() -> None:
    manifests = [made(f"m{i}", f"thing{i}") for i in range(10)]
    for seeds, at_once in ((24, 64), (8, 64), (24, 4), (3, 1)):
        batches = schedule.batches(manifests, [], seeds, at_once)
        assert all(len(batch.groups) * seeds % at_once == 0 for batch in batches[:-1])


def test_a_joint_edit_takes_the_first_of_equal_sources() -> None:
    manifests = [made("a"), made("b"), made("c", "tulip")]
    joined, kept = schedule.joint(manifests)
    assert [m.name for m in kept] == ["a", "c"] and [e.source for e in joined.edits] == ["A rose", "A tulip"]
    (job,) = schedule.jobs(manifests, schedule.configurations(["time"], {}, True), False)
    assert job.model == "time bulk" and job.tested == (manifests[0], manifests[2])


def test_what_a_joint_edit_has_once_must_agree() -> None:
    tuned = replace(made("b", "tulip"), solve=Solve(lam=7.0))
    (job,) = schedule.jobs([made("a"), tuned], [Configuration(bulk=True)], False)
    assert job.manifest.solve.lam == 0.1
    loose = replace(tuned, edits=tuple(replace(edit, lam=None) for edit in tuned.edits))
    joined, _ = schedule.joint([made("a"), loose])
    assert [joined.lam(edit) for edit in joined.edits] == [3.0, 7.0], "each keeps the λ of its own manifest"
    with pytest.raises(ManifestError, match="b has another solve.tokens than a"):
        schedule.joint([made("a"), replace(tuned, solve=Solve(tokens="prompt"))])


def test_crossed_each_edit_draws_the_others_validation_prompts() -> None:
    other = BALANCE.replace("rose", "tulip").replace("blue", "black")
    manifests = [made("a", more=BALANCE), made("b", "tulip", other)]
    for cross, more in ((True, ["A photo of a tulip"]), (False, [])):
        work = schedule.jobs(manifests, [Configuration()], cross)
        prompts = {b.model: [g.prompt for g in b.groups] for b in schedule.batches(manifests, work, 8, 64)}
        assert prompts["time/a"] == ["A red rose", "A photo of a rose", *more]


def test_the_unedited_model_draws_the_oracle_of_a_balance() -> None:
    (batch,) = schedule.batches([made("a", more=BALANCE)], [], 8, 64)
    pair = ("A photo of a blue rose", "A photo of a red rose")
    assert {group.prompt: group.questions for group in batch.groups} == {
        "A red rose": (("A red rose", "A blue rose"),),
        "A photo of a rose": (pair,),
        "A photo of a blue rose": (pair,),
        "A photo of a red rose": (pair,),
    }


def test_two_manifests_of_one_name_are_refused() -> None:
    with pytest.raises(ManifestError, match="two manifests are called 'a'"):
        company.require_names([made("a"), made("b"), made("a")])


def test_a_joint_edit_keeps_every_strength() -> None:
    joined, kept = schedule.joint([with_strength(made("a"), 0.4), made("b", "tulip")])
    assert [joined.strength(edit) for edit in joined.edits] == [0.4, 1.0] and len(kept) == 2
    other = replace(made("c", "dog"), preserve=Preserve(everyday=False))
    with pytest.raises(ManifestError, match="c has another preserve.everyday than a"):
        schedule.joint([made("a"), other])
