"""A strength is how far the source goes, alone or in company; edits that cannot be had together are named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from timecli.editing import compiling, conflicts, forecast, strengths
from timecli.editing.delta import Delta
from timecli.editing.solve import solve
from timecli.manifests.manifest import Manifest, parse
from timecli.models.checkpoint import Checkpoint
from timecli.text import everyday, pairing
from timecli.text.everyday import Everyday
from timecli.text.readers import TextEncoder

from .conftest import Run

CPU = torch.device("cpu")
THINGS = [("rose", "blue", 1.0), ("car", "green", 0.5), ("hat", "white", 1.3), ("pig", "yellow", 0.0)]


def asked(things: list[tuple[str, str, float]], more: str = "") -> Manifest:
    edits = (
        f'[[edit]]\nsource = "A {noun}"\ndestination = "A {value} {noun}"\nstrength = {strength}\n'
        for noun, value, strength in things
    )
    return parse('name = "x"\n' + more + "".join(edits))


@pytest.fixture(scope="module")
def world(encoder: TextEncoder) -> Everyday:
    return everyday.measured(asked(THINGS), encoder)


def shares(task: Manifest, delta: Delta, model: Checkpoint, encoder: TextEncoder) -> list[float]:
    pairs = [(edit.source, edit.destination) for edit in task.edits]
    metric = forecast.metric(model, delta.origin, encoder)
    return forecast.shares(pairs, encoder, delta.operator, metric)


@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("solving", ["", "[solve]\nlambda = 1000\n", "[preserve]\neveryday_weight = 0.01\n"])
def test_every_source_goes_as_far_as_its_strength_says(
    count: int, solving: str, model: Checkpoint, encoder: TextEncoder, world: Everyday
) -> None:
    task = asked(THINGS[:count], solving)
    delta = compiling.compile_edit(task, model, encoder, CPU, world)
    wanted = [strength for _, _, strength in THINGS[:count]]
    assert shares(task, delta, model, encoder) == pytest.approx(wanted, abs=1e-4)
    assert list(delta.origin.strengths) == wanted and conflicts.conflicts(task, model, encoder, delta) == []
    plain = replace(delta, operators={"text": solve(pairing.columns(task, encoder, world))})
    assert shares(task, plain, model, encoder) != pytest.approx(wanted, abs=0.01), (
        "the control: without factors they go elsewhere"
    )


def test_the_factors_are_those_of_a_system_written_pair_by_pair(
    model: Checkpoint, encoder: TextEncoder, world: Everyday
) -> None:
    """D_j with an explicit inverse and T from the operators' own shares, in float64."""
    task = asked(THINGS, '[preserve]\nprompts = ["A tulip"]\n')
    blocks = list(pairing.columns(task, encoder, world))
    rows, targets, weights, numbers = (torch.cat(part) for part in zip(*blocks, strict=True))
    inverse = torch.linalg.inv(torch.eye(192, dtype=torch.float64) + (rows.T * weights) @ rows)
    metric = forecast.metric(model, compiling.origin(task, encoder, world), encoder)
    parts, crossed = [], []
    for j, (number, pairs) in enumerate(pairing.parts(task)):
        assert pairs[0][0].startswith("A photo of") == j % 2 and number == j // 2, "a source, and its other wordings"
        own = numbers == j
        parts.append(((targets - rows)[own].T * weights[own]) @ rows[own] @ inverse)
    for _, pairs in pairing.parts(task):
        ways = list(forecast.ways(pairs, encoder, metric))
        told = [[float(((way.states @ part.T) * way.toward).sum()) for part in parts] for way in ways]
        crossed.append(torch.tensor(told, dtype=torch.float64).mean(0))
    rows, wanted = [], []
    for i, (_, _, strength) in enumerate(THINGS):
        source, others = crossed[2 * i], crossed[2 * i + 1]
        beside = float(others[2 * i : 2 * i + 2].sum() / source[2 * i : 2 * i + 2].sum())
        apart = torch.zeros(8, dtype=torch.float64)
        apart[2 * i], apart[2 * i + 1] = -0.1, 0.1
        rows += [1e3 * source, others, apart]
        wanted += [1e3 * strength, strength * beside, 0]
    expected = torch.linalg.lstsq(torch.stack(rows), torch.tensor(wanted, dtype=torch.float64)[:, None]).solution[:, 0]
    delta = compiling.compile_edit(task, model, encoder, CPU, world)
    assert torch.tensor(delta.origin.factors, dtype=torch.float64).allclose(expected, rtol=1e-4)
    strengths_only = torch.tensor([strength for _, _, strength in THINGS]).double().repeat_interleave(2)
    assert not expected.allclose(strengths_only, rtol=0.05), "the control: factors are no strengths"
    whole = sum(float(factor) * part for factor, part in zip(expected, parts, strict=True))
    made = delta.operator.left.double() @ delta.operator.right.double()
    assert (made - whole).norm() / whole.norm() < 1e-4


def test_a_joint_edit_does_not_depend_on_the_order(model: Checkpoint, encoder: TextEncoder, world: Everyday) -> None:
    one, other = (
        compiling.compile_edit(asked(things), model, encoder, CPU, world) for things in (THINGS, THINGS[::-1])
    )
    found, turned = (torch.tensor(delta.origin.factors).reshape(-1, 2) for delta in (one, other))
    assert found.allclose(turned.flip(0), rtol=1e-3)
    a, b = (delta.operator.left.double() @ delta.operator.right.double() for delta in (one, other))
    assert (a - b).norm() / a.norm() < 1e-4


def test_without_the_everyday_world_a_strength_scales_the_target_and_there_are_no_factors(
    model: Checkpoint, encoder: TextEncoder
) -> None:
    task = asked(THINGS, "[preserve]\neveryday = false\n")
    delta = compiling.compile_edit(task, model, encoder, CPU)
    plain = solve(pairing.columns(task, encoder, None))
    assert torch.equal(delta.operator.left, plain.left) and torch.equal(delta.operator.right, plain.right)
    assert delta.origin.factors == () and conflicts.conflicts(task, model, encoder, delta) == []
    (rows,) = pairing.columns(asked(THINGS[1:2], "[preserve]\neveryday = false\n"), encoder, None)
    (whole,) = pairing.columns(asked([("car", "green", 1.0)], "[preserve]\neveryday = false\n"), encoder, None)
    assert torch.equal(rows.destination, whole.source + 0.5 * (whole.destination - whole.source))


def test_what_is_preserved_by_name_and_edited_is_bounded_and_named(
    model: Checkpoint, encoder: TextEncoder, world: Everyday
) -> None:
    task = asked([("rose", "blue", 1.0)], '[preserve]\nprompts = ["A rose"]\nweight = 1000\n')
    delta = compiling.compile_edit(task, model, encoder, CPU, world)
    assert delta.origin.factors[0] == strengths.BOUND
    said = conflicts.conflicts(task, model, encoder, delta)
    assert len(said) == 2 and "'A rose' is preserved by name, and 'A rose' is edited" in said[0]
    assert (
        "'A rose' goes " in said[1]
        and "not the 100% of its strength; lower preserve.everyday_weight or preserve.weight" in said[1]
    )


@pytest.mark.parametrize("gap", [0.0, 1e-9])
def test_edits_that_cannot_be_told_apart_have_bounded_factors(gap: float) -> None:
    """Two rows of T that ask the same for different strengths: each goes half of both, and nothing blows up."""
    crossed = torch.tensor([[0.5, 0.5], [0.5, 0.5 + gap]], dtype=torch.float64)
    wanted = torch.tensor([1.0, 0.0], dtype=torch.float64)
    found = strengths.bounded(crossed, wanted, wanted)
    assert found.abs().max() <= strengths.BOUND and crossed @ found == pytest.approx([0.5, 0.5], abs=1e-3)
    apart = torch.tensor([[0.5, 0.1], [0.1, 0.5]], dtype=torch.float64)
    free = strengths.bounded(apart, wanted, wanted)
    assert apart @ free == pytest.approx([1, 0], abs=1e-6), "the control"


def test_a_source_that_the_maps_do_not_tell_from_its_destination_asks_for_nothing() -> None:
    crossed = torch.tensor([[torch.nan, torch.nan], [0.2, 0.5]], dtype=torch.float64)
    wanted = torch.ones(2, dtype=torch.float64)
    found = strengths.bounded(crossed, wanted, wanted)
    assert found.isfinite().all() and float(crossed[1] @ found) == pytest.approx(1)


def test_sources_that_are_taken_elsewhere_are_named_with_what_takes_them(
    model: Checkpoint, encoder: TextEncoder, world: Everyday, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = asked([("rose", "blue", 1.0), ("rosebud", "green", 1.0)])
    delta = compiling.compile_edit(task, model, encoder, CPU, world)
    assert conflicts.conflicts(task, model, encoder, delta) == [], "picturebook tells them apart"
    monkeypatch.setattr(conflicts, "ASIDE", 0.01)
    said = conflicts.conflicts(task, model, encoder, delta)
    assert len(said) == 2 and "'A rosebud' -> 'A green rosebud' pulls against it" in said[0]


def test_plan_shows_strength_factor_and_share_and_the_delta_keeps_both(
    run: Run, picturebook: Path, tmp_path: Path
) -> None:
    (tmp_path / "x.toml").write_text(asked(THINGS[:2]).text)
    done = run("plan", tmp_path / "x.toml", picturebook)
    assert done.code == 0 and "strengths, with the factors that keep them: 'A rose' 1 (factor " in done.out
    assert "'A car' 0.5 (factor " in done.out and "│ 50%" in done.out
    assert run("edit", tmp_path / "x.toml", picturebook, "--delta", tmp_path / "d").code == 0
    about = run("inspect", tmp_path / "d").out
    assert "strengths: 1, 0.5\n" in about and "\nfactors: " in about
