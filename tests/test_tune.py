"""A search finds the λ that a formula has hidden, asks for none twice, and writes it without touching comments."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from math import exp, log10
from pathlib import Path

import pytest
import torch

from timecli.commands import terminal
from timecli.errors import ManifestError
from timecli.manifests import balances, manifest, settings
from timecli.manifests.rows import Row
from timecli.measuring import objectives, trials, tune
from timecli.measuring.objectives import LAMBDA, STRENGTH, Axis
from timecli.measuring.tune import Trial
from timecli.models.checkpoint import Checkpoint
from timecli.text.readers import TextEncoder

from .conftest import PICTUREBOOK, ROSES, Run

CEO = PICTUREBOOK / "bench" / "professions" / "female-ceo.toml"
TESTED = (
    'name = "x"\n[[edit]]\nsource = "A rose"\ndestination = "A blue rose"\n'
    'positives = [{prompt = "A photo of a rose", destination = "A photo of a blue rose"}]\n'
    'negatives = [{prompt = "A dog", destination = "A blue dog"}]\n'
)
"""A pair with a test of either kind."""


def scored(attempt: Callable[[float], float]) -> Callable[[float], Trial]:
    """An attempt as the harmonic search takes it."""
    return lambda value: Trial(value, attempt(value))


def recorded(function: Callable[[float], float], line: Axis = LAMBDA) -> tuple[Callable[[float], float], list[float]]:
    """A score that hides its peak at a place of the axis, and the values that were asked for."""
    asked: list[float] = []

    def attempt(value: float) -> float:
        asked.append(value)
        return function(log10(value) if line is LAMBDA else value)

    return attempt, asked


@pytest.mark.parametrize("peak", [-3.2, 0.0, 4.6])
@pytest.mark.parametrize("first", [-2.0, 1.3])
def test_harmonic_climbs_to_the_peak(peak: float, first: float) -> None:
    attempt, asked = recorded(lambda x: exp(-((x - peak) ** 2)))
    reported: list[Trial] = []
    best = tune.harmonic(first, LAMBDA, scored(attempt), reported.append)
    assert abs(log10(best.value) - peak) <= 0.26 and best.score == max(trial.score for trial in reported)
    assert len(asked) == len(set(asked)) == len(reported), "no λ is drawn for twice"


@pytest.mark.parametrize("middle", [-6.0, 0.3, 5.5])
@pytest.mark.parametrize("rising", [True, False])
def test_balance_is_found_by_bisection(middle: float, rising: bool) -> None:
    sign = 1 if rising else -1
    attempt, asked = recorded(lambda x: 1 / (1 + exp(-2 * sign * (x - middle))))
    best = tune.balance(0.0, LAMBDA, attempt, lambda _: None, 0.5, rising)
    assert tune.distance(best.score, 0.5) < tune.CLOSE and len(asked) == len(set(asked)) <= tune.TRIALS


@pytest.mark.parametrize("middle", [0.1, 0.9, 2.7])
@pytest.mark.parametrize("rising", [True, False])
def test_a_strength_is_found_likewise(middle: float, rising: bool) -> None:
    sign = 1 if rising else -1
    attempt, asked = recorded(lambda x: 1 / (1 + exp(-4 * sign * (x - middle))), STRENGTH)
    best = tune.balance(0.5, STRENGTH, attempt, lambda _: None, 0.5, rising)
    assert tune.distance(best.score, 0.5) < tune.CLOSE and len(asked) == len(set(asked)) <= tune.TRIALS
    assert all(STRENGTH.least <= value <= STRENGTH.most for value in asked)


def test_where_there_is_no_balance_the_nearest_is_returned() -> None:
    attempt, asked = recorded(lambda x: 0.1)
    best = tune.balance(0.0, LAMBDA, attempt, lambda _: None, 0.5, True)
    assert best.score == 0.1 and len(asked) == len(set(asked)) <= tune.TRIALS


def test_the_direction_is_the_destinations() -> None:
    ceo = manifest.load(CEO)
    assert not objectives.rises(ceo, LAMBDA), "a larger lambda returns to men, the second description"
    assert objectives.rises(ceo, STRENGTH), "more strength leads to women, the first"
    assert objectives.rises(manifest.load(CEO.with_name("male-nurse.toml")), LAMBDA)
    with pytest.raises(ManifestError, match=r"has no \[balance\]"):
        objectives.toward(manifest.parse(CEO.read_text().split("[balance]")[0]))
    with pytest.raises(ManifestError, match="must be the edit's destination"):
        objectives.toward(manifest.parse(CEO.read_text().replace("a female CEO", "a tall CEO")))


def test_lambda_is_written_and_comments_stay() -> None:
    text = '# why\nname = "x" # this\n[solve]\nlambda = 0.1 # paper\naugment = false\n[[edit]]\n'
    text += 'source = "a"\ndestination = "b"\nlambda = 5\n# the end\n'
    found = settings.written(manifest.parse(text), {"lambda": 2.5})
    assert found == text.replace("0.1", "2.5").replace("lambda = 5\n", "")
    told = text.replace("lambda = 5", "lambda = 5 # a reason")
    kept = settings.written(manifest.parse(told), {"lambda": 2.5})
    assert kept == told.replace("0.1", "2.5").replace("lambda = 5 # a reason", "# a reason")
    bare = manifest.parse('name = "x"\n[[edit]]\nsource = "a"\ndestination = "b"\n')
    after = manifest.parse(settings.written(bare, {"lambda": 2.5}))
    assert after.solve.lam == 2.5 and after.edits == bare.edits
    stronger = manifest.parse(settings.written(bare, {"strength": 1.3}))
    assert stronger.solve.strength == 1.3 and objectives.axis(bare) is STRENGTH


def test_the_command_draws_counts_and_writes(run: Run, picturebook: Path, tmp_path: Path) -> None:
    options = ["--seeds", 4, "--steps", 2, "--guidance", 3, "--json"]
    done = run("tune", CEO, picturebook, "-o", tmp_path / "ceo.toml", *options)
    assert done.code == 0, done.err
    found = json.loads(done.out)
    trials = [line for line in done.err.splitlines() if line.startswith("lambda ")]
    assert found["pictures"] == 4 * (len(trials) + 1) and 0 <= found["score"] <= 1, "the unedited model is drawn first"
    assert "female-ceo, unedited: " in done.err.splitlines()[0] and "with 95 % confidence" in trials[0]
    assert "4 pictures, which prove nothing" in done.err and found["verdict"] is False
    low, high = found["interval"]
    assert low < found["score"] < high or found["score"] in (0.0, 1.0)
    assert manifest.load(tmp_path / "ceo.toml").solve.lam == found["lambda"]
    assert manifest.load(CEO).solve.lam == 0.1, "the source stays"


def test_what_cannot_be_tuned_is_refused(run: Run, picturebook: Path, tmp_path: Path) -> None:
    for arguments, sentence in (
        ([CEO, picturebook, "--objective", "harmonic"], "female-ceo has no positives"),
        ([CEO, picturebook, "--objective", "mean"], "use harmonic, balance, forecast"),
        ([CEO, picturebook, "--objective", "balance", "-o", CEO], "is an input of this command"),
    ):
        done = run("tune", *arguments)
        assert done.code == 2 and sentence in done.err, done.err


def test_of_equal_scores_the_smaller_change_counts_and_the_search_walks_on_that_way() -> None:
    attempt, asked = recorded(lambda strength: 1.0 if strength >= 0.5 else 0.0, STRENGTH)
    best = tune.harmonic(2.0, STRENGTH, scored(attempt), lambda _: None)
    assert 0.5 <= best.value <= 0.6 and best.score == 1.0, "the least strength that does it"
    attempt, _ = recorded(lambda place: 1.0 if place <= 3 else 0.0)
    assert log10(tune.harmonic(-2.0, LAMBDA, scored(attempt), lambda _: None).value) == pytest.approx(3, abs=0.25)
    attempt, _ = recorded(lambda strength: 1 - abs(strength - 2.0), STRENGTH)
    assert tune.harmonic(2.0, STRENGTH, scored(attempt), lambda _: None).value == 2.0, (
        "the control: a better score wins"
    )


def test_no_score_pays_for_a_missed_threshold() -> None:
    """A score that rises as the change shrinks, and a threshold that only larger changes meet."""

    def attempt(strength: float) -> Trial:
        return Trial(strength, 1 - strength / 10, ["too few"] * (strength < 0.7))

    assert tune.harmonic(1.6, STRENGTH, attempt, lambda _: None).value == pytest.approx(0.7, abs=0.1)
    free = tune.harmonic(1.6, STRENGTH, lambda value: Trial(value, attempt(value).score), lambda _: None)
    assert free.value == STRENGTH.least, "the control"


def test_ruined_neighbours_cost_score_although_the_judge_calls_them_right() -> None:
    """All positives arrive and no negative shows the destination: only *kept* tells the two edits apart."""
    table = [Row("positive", "p", "q"), Row("negative", "n", "m")]
    assert trials._mean(table, [1.0, 0.0], 0.96) > 0.98 > 0.85 > trials._mean(table, [1.0, 0.0], 0.6)


def test_a_forecast_does_not_reward_what_goes_past_its_destination(
    run: Run, picturebook: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a plural that follows by half, more strength shows more pictures and leads further past all the others."""
    path = tmp_path / "x.toml"
    assert run("init", "roses", "blue roses", picturebook, "-o", path).code == 0
    done = run("tune", path, picturebook, "--objective", "forecast", "--json", "-o", tmp_path / "y.toml")
    assert done.code == 0, done.err
    found = manifest.load(tmp_path / "y.toml").solve.strength
    assert 0.8 < found < 1.3
    monkeypatch.setattr("timecli.editing.forecast.reached", lambda *_: [1.0])
    assert run("tune", path, picturebook, "--objective", "forecast", "-o", tmp_path / "z.toml").code == 0
    assert manifest.load(tmp_path / "z.toml").solve.strength > 1.1 * found, "the control"


def test_trials_encode_the_same_prompts_once(model: Checkpoint, encoder: TextEncoder, tmp_path: Path) -> None:
    """Of one manifest, and reach what edits with nothing remembered reach. The control: those encode them each time."""
    path = tmp_path / "x.toml"
    path.write_text(f"{TESTED}[preserve]\neveryday = false\n")
    task, read = manifest.load(path), []

    def counting(prompts: Sequence[str], positions: int | None = None) -> list[dict[str, torch.Tensor]]:
        read.append(len(prompts))
        return type(encoder).encode(encoder, prompts, positions)

    own = replace(encoder)
    object.__setattr__(own, "encode", counting)
    forecasts = trials.Forecasts(model, own, torch.device("cpu"), None)
    values = [replace(task, solve=replace(task.solve, strength=strength)) for strength in (0.5, 0.8, 1.1)]
    first = forecasts.mean(values[0])
    once = sum(read)
    found = [first, *map(forecasts.mean, values[1:])]
    assert sum(read) == once > 0
    again = []
    for value in values:
        own.fresh()
        again.append(forecasts.mean(value))
    assert sum(read) == 4 * once and found == pytest.approx(again, abs=1e-6)


def test_the_harmonic_objective_measures_kept_on_pictures(run: Run, picturebook: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_text(TESTED)
    done = run("tune", path, picturebook, "--seeds", 1, "--steps", 1, "--json")
    assert done.code == 0, done.err
    assert done.err.startswith("the result is only printed; -o or --in-place write it.")
    found, tries = json.loads(done.out), [line for line in done.err.splitlines() if line.startswith("strength ")]
    assert found["pictures"] == 3 * len(tries) + 3, "what is wanted is drawn once, for all trials"
    assert 0 <= found["score"] <= 1 and found["missed"] == [] and not found["verdict"]
    assert "chance decides with 1 picture of a prompt" in done.err


def test_a_threshold_that_no_value_meets_is_named(run: Run, picturebook: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_text(f"{TESTED}[verify]\nreached = 1.0\nkept = 0.0\n")
    done = run("tune", path, picturebook, "--seeds", 1, "--steps", 1, "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    (sentence,) = found["missed"]
    assert sentence.startswith("reached is ") and "below the 1.000 that x asks for" in sentence, "and kept is met"
    how = ("--strength", found["strength"], "--seeds", 1, "--steps", 1, "-o", tmp_path / "report")
    assert sentence in run("verify", path, picturebook, *how).err, "measured as verify does"
    assert "1 threshold missed" in done.err and "no value that was tried meets every threshold" in done.err


def test_the_time_left_is_shown_while_a_value_is_drawn(
    run: Run, picturebook: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(terminal, "EVERY", 0.0)
    done = run("tune", CEO, picturebook, "--seeds", 2, "--steps", 2, "--guidance", 3)
    assert done.code == 0, done.err
    lines = [line for line in done.err.splitlines() if line.startswith("drawing: ")]
    assert lines and all(line.endswith(" left") and "of 2 pictures for this value, " in line for line in lines)


def test_the_interval_is_wilsons() -> None:
    assert balances.interval(0.5, 24) == pytest.approx((0.314, 0.686), abs=1e-3)
    assert balances.interval(0.0, 24) == pytest.approx((0.0, 0.138), abs=1e-3)
    narrow, wide = (balances.interval(0.5, count) for count in (1000, 2))
    assert wide[0] < 0.1 and wide[1] > 0.9 and narrow[1] - narrow[0] < 0.07


def test_a_manifest_with_a_balance_alone_is_balanced() -> None:
    ceo = manifest.load(CEO)
    assert objectives.suited([ceo]) == "balance"
    assert objectives.suited([manifest.load(ROSES)]) == "harmonic" == objectives.suited([ceo, manifest.load(ROSES)])


class Swayed:
    """Shares of two edits that each take .1 of the other's way; the second is beyond its balance from the start."""

    def shares(self, edited: manifest.Manifest, tasks: list[manifest.Manifest]) -> list[float]:
        first, second = (edited.strength(edit) for edit in edited.edits)
        return [first - 0.1 * second, 0.7 + 0.1 * first + second]


def test_a_joint_balance_ends_where_what_is_off_has_no_step_left_and_keeps_the_best_round() -> None:
    """The second cannot be balanced: it has the least strength, and must not hide how near the first has come."""
    people = PICTUREBOOK / "bench" / "people"
    loaded = [manifest.load(people / f"female-{who}.toml") for who in ("ceo", "farmer")]
    tasks = [manifest.with_strength(task, value) for task, value in zip(loaded, (0.3, 0.05), strict=True)]
    rounds: list[tuple[str, Trial]] = []
    found = tune.balance_all(tasks, Swayed(), lambda *one: rounds.append(one))  # type: ignore[arg-type]
    assert len(rounds) < 2 * tune.ROUNDS and found[1].value == 0.05
    assert abs(found[0].score - 0.5) < tune.CLOSE / 2 < abs(rounds[0][1].score - 0.5), "the control: the first round"
