"""Tables, counted by hand."""

from __future__ import annotations

import pytest

from timecli.manifests.manifest import Manifest, parse
from timecli.measuring import schedule, tables
from timecli.measuring.bench import Answers
from timecli.measuring.schedule import BASE, Configuration

RATES = {"a": ([1, 1, 1], [1, 0, 1], [0, 1, 1]), "b": ([1, 1, 0], [0, 0, 1], [1, 1, 1])}
"""By edit: the oracle's answers on the positive prompt, the edit's, and the edit's on the negative one."""


def entry(name: str) -> Manifest:
    return parse(
        f'name = "{name}"\n[[edit]]\nsource = "{name}"\ndestination = "new {name}"\n'
        f'positives = [{{ prompt = "p{name}", destination = "new p{name}" }}]\n'
        f'negatives = [{{ prompt = "n{name}", destination = "new n{name}" }}]\n'
    )


def answers(manifests: list[Manifest], model: str) -> Answers:
    found: Answers = {}
    for manifest in manifests:
        name = manifest.name
        oracle, positive, negative = RATES[name]
        source, tests, others = (name, f"new {name}"), (f"p{name}", f"new p{name}"), (f"n{name}", f"new n{name}")
        found |= {(BASE, name, source): (0, 0, 0), (BASE, f"new {name}", source): (1, 1, 1)}
        found |= {(BASE, f"p{name}", tests): (0, 0, 0), (BASE, f"new p{name}", tests): tuple(oracle)}
        found |= {(BASE, f"n{name}", others): (0, 0, 0)}
        edited = f"{model}/{name}"
        found |= {(edited, name, source): (1, 1, 1), (edited, f"p{name}", tests): tuple(positive)}
        found |= {(edited, f"n{name}", others): tuple(negative)}
    return found


def test_means_are_over_edits_and_deviations_over_seeds() -> None:
    manifests = [entry("a"), entry("b")]
    work = schedule.jobs(manifests, [Configuration()], False)
    results = tables.collect(work, answers(manifests, "time"))
    total = tables.total(tables.merged(results, "edited"))
    assert total["generality"].per_seed == (0.5, 0.0, 1.0) and total["generality"].mean == 0.5
    assert total["specificity"].per_seed == (0.5, 0.0, 0.0)
    assert tables.mean(total) == pytest.approx(2 / (1 / 0.5 + 1 / (1 / 6)))
    assert tables.filtered(results) == ["a"], "b's oracle is right two times in three"
    page = tables.markdown("title", results)
    assert "**Both edits**" in page and "**Of these, the 1 whose oracle reaches 80%**" in page
    assert "| time | 100.0% ± 0.0% | 50.0% ± 40.8% | 16.7% ± 23.6% | - | 25.0% | 33.3% | - | - | 1.00 |" in page
