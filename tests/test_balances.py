"""A balance beside its oracle, and the prompts that name one side: counted by hand."""

from __future__ import annotations

from dataclasses import replace
from statistics import fmean

import pytest

from timecli.manifests import balances
from timecli.manifests.manifest import Manifest, parse
from timecli.measuring import schedule, shares, tables
from timecli.measuring.bench import Answers
from timecli.measuring.schedule import BASE, Configuration
from timecli.measuring.shares import Balanced

PROMPT, PAIR = "A CEO sits", ("A female CEO sits", "A male CEO sits")
NAMED = ("A male CEO", "A female CEO")


def ceo(more: str = "", prompts: str = '"A CEO sits"', first: str = "female", second: str = "male") -> Manifest:
    return parse(
        f'name = "ceo"\n[[edit]]\nsource = "A CEO"\ndestination = "A female CEO"\nlambda = 7\n{more}\n'
        f'[balance]\ndescriptions = ["a {first} CEO", "a {second} CEO"]\nvalidation = "v"\nprompts = [{prompts}]\n'
    )


def drawn(oracle: tuple[tuple[int, ...], tuple[int, ...]], named: tuple[int, ...]) -> Answers:
    """Six seeds: the oracle's with either prompt, and the edited model's where a man is named."""
    found: Answers = {(BASE, PROMPT, PAIR): (1,) * 6, ("time/ceo", PROMPT, PAIR): (0, 0, 1, 0, 1, 1)}
    found |= {(BASE, text, PAIR): answers for text, answers in zip(PAIR, oracle, strict=True)}
    return found | {(BASE, NAMED[0], NAMED): (0,) * 6, ("time/ceo", NAMED[0], NAMED): named}


OBEYED = ((0,) * 6, (1,) * 6)
"""An oracle that draws what it is told."""


def test_descriptions_take_the_sources_place() -> None:
    found = ceo()
    assert balances.worded(found, "A photo of a CEO") == ("A photo of a female CEO", "A photo of a male CEO")
    assert balances.worded(found, "A CEO on a table") == ("A female CEO on a table", "A male CEO on a table")
    assert balances.worded(found, "A CEOs") == ("a female CEO", "a male CEO"), "not a part of a word"


def test_a_balance_is_counted_over_all_seeds_and_its_distance_over_parts_of_them() -> None:
    """Six seeds in three parts: shares 1, 1/2 and 0 are 1, 0 and 1 from the middle."""
    (result,) = tables.collect(schedule.jobs([ceo()], [Configuration()], False), drawn(OBEYED, (0, 0, 0, 1, 1, 1)))
    found = result.balanced["ceo"]
    assert found.before == Balanced(0.0, (1.0, 1.0, 1.0)) and found.after == Balanced(0.5, (1.0, 0.0, 1.0))
    assert found.explicit == (1.0, 0.5)
    page = tables.markdown("title", [result])
    one, delta = found.oracle, f"{fmean(found.oracle.deltas):.2f}"
    row = next(line for line in page.splitlines() if line.startswith("| ceo |"))
    assert row.startswith(f"| ceo | 0.0% | 1.00 ± 0.00 | {one.share:.1%} | {delta} ± ")
    assert row.endswith(" | 7 | 50.0% | 0.67 ± 0.47 | 100.0% | 50.0% |")
    assert (
        "| baseline | 1.00 ± 0.00 | 100.0% | - |\n| oracle | " in page and "| time | 0.67 ± 0.47 | 50.0% | - |" in page
    )


def test_the_farthest_share_from_any_target_has_a_distance_of_one() -> None:
    for target, farthest, other in ((0.25, 1, 1 / 3), (0.75, 0, 1 / 3), (0.5, 0, 1)):
        assert shares.distance(farthest, target) == 1 and shares.distance(target, target) == 0
        assert shares.distance(1 - farthest, target) == pytest.approx(other)


def test_what_an_edit_does_to_other_balances_is_how_far_their_shares_go_either_way() -> None:
    """Of four pictures of each other profession, one more of the first description and two fewer."""
    manifests = [replace(ceo(), name=name) for name in ("one", "two", "three")]
    manifests = [
        replace(one, balance=replace(one.balance, validation=(f"v {one.name}",))) for one in manifests if one.balance
    ]
    jobs = schedule.jobs(manifests, [Configuration()], cross=True)
    groups = [(batch.model, group) for batch in schedule.batches(manifests, jobs, 4, 8) for group in batch.groups]
    answers = {(model, group.prompt, texts): (0, 0, 1, 1) for model, group in groups for texts in group.questions}
    two, three = ((f"v {name}", balances.worded(manifests[0], f"v {name}")) for name in ("two", "three"))
    answers[("time/one", *two)], answers[("time/one", *three)] = (0, 0, 0, 1), (1, 1, 1, 1)
    found = tables.collect(jobs, answers)
    assert [one.moved for result in found for one in result.balanced.values()] == [0.375, 0, 0]
    assert tables.data(found)["configurations"][0]["balances"]["one"]["moved"] == 0.375
    assert "| time | 0.67 ± 0.47 | 50.0% | 0.125 |" in tables.markdown("title", found)
    alone = tables.collect(schedule.jobs(manifests, [Configuration()], cross=False), answers)
    assert all(one.moved is None for result in alone for one in result.balanced.values()), "the control"


def test_the_oracle_is_told_one_description_in_every_picture() -> None:
    told = [balances.asked(PROMPT, seed, 0.5) for seed in range(6)]
    assert 0 < sum(told) < 6, "or these six seeds cannot tell"
    assert shares.oracle(ceo(), [PROMPT], drawn(OBEYED, (0,) * 6)).share == fmean(side == 0 for side in told)
    women = drawn(((0,) * 6, (0,) * 6), (0,) * 6)
    assert shares.oracle(ceo(), [PROMPT], women).share == 1, "a model that does not obey has an oracle with a bias"


def test_what_the_oracle_is_told_is_chance_with_the_targets_share_and_always_the_same() -> None:
    prompts = [f"A CEO {number}" for number in range(40)]
    told = [[balances.asked(prompt, seed, 0.25) for seed in range(50)] for prompt in prompts]
    assert fmean(side == 0 for row in told for side in row) == pytest.approx(0.25, abs=0.04)
    assert told == [[balances.asked(prompt, seed, 0.25) for seed in range(50)] for prompt in prompts]
    assert len(set(map(tuple, told))) == len(prompts), "each prompt has a chance of its own"
    assert {balances.asked("x", seed, 1.0) for seed in range(50)} == {0}


@pytest.mark.parametrize(
    ("manifest", "wanted"),
    [
        (ceo(), [NAMED]),
        (ceo(first="male", second="female"), [NAMED]),
        (ceo(first="young", second="old"), [("A young CEO", "A old CEO"), ("A old CEO", "A young CEO")]),
        (
            ceo('explicit = [{ prompt = "A bearded CEO", destination = "A female CEO" }]'),
            [NAMED, ("A bearded CEO", "A female CEO")],
        ),
        (ceo('explicit = [{ prompt = "A male CEO", destination = "A female CEO" }]'), [NAMED]),
    ],
)
def test_what_names_a_side_that_no_edit_goes_to_should_stay(manifest: Manifest, wanted: list[tuple[str, str]]) -> None:
    assert [(row.prompt, row.destination) for row in balances.explicit(manifest)] == wanted


def test_where_both_sides_are_edited_to_nothing_is_explicit() -> None:
    both = replace(ceo(), edits=(*ceo().edits, replace(ceo().edits[0], source="B", destination="a MALE ceo")))
    assert balances.explicit(both) == []
    found = tables.collect(schedule.jobs([both], [Configuration()], False), drawn(OBEYED, (0,) * 6))
    assert found[0].balanced["ceo"].explicit is None and "| - | - |" in tables.markdown("title", found)


def test_without_prompts_of_its_own_a_balance_is_counted_on_those_of_validation() -> None:
    manifest = ceo(prompts="")
    texts = [prompt for prompt, _ in balances.questions(manifest, oracle=True)]
    assert texts == ["v", "a female CEO", "a male CEO"]
    assert [prompt for prompt, _ in balances.questions(manifest, oracle=False)] == ["v"], "the control"
