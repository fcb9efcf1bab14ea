"""Tokens are paired as the paper pairs them, and sensibly where the paper says nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from timecli.align import align
from timecli.errors import PromptError

START, END = 0, 99
A, ROSE, BLUE, DOG, POLAR, BEAR, RED, OF, PACK = range(1, 10)

CASES = {
    "an added word": ([A, ROSE], [A, BLUE, ROSE], [0, 1, 3, 4, 5, 6, 7, 7]),
    "added in the middle": ([A, PACK, OF, ROSE], [A, PACK, OF, BLUE, ROSE], [0, 1, 2, 3, 5, 6, 7, 7]),
    "added at the end": ([A, DOG], [A, DOG, OF, BLUE], [0, 1, 2, 5, 6, 7, 7, 7]),
    "the first of two equal tokens": ([A, DOG], [A, A, DOG], [0, 1, 3, 4, 5, 6, 7, 7]),
    "a replaced word": ([A, DOG], [A, BEAR], [0, 1, 2, 3, 4, 5, 6, 7]),
    "one word by two": ([A, DOG], [A, POLAR, BEAR], [0, 1, 3, 4, 5, 6, 7, 7]),
    "two words by one": ([A, RED, ROSE], [A, BEAR], [0, 1, 2, 2, 3, 4, 5, 6]),
    "a word taken out": ([A, RED, ROSE], [A, ROSE], [0, 1, 2, 2, 3, 4, 5, 6]),
}


@pytest.mark.parametrize("name", CASES)
def test_table(name: str) -> None:
    source, destination, expected = CASES[name]
    assert align([START, *source, END], [START, *destination, END], 8) == expected


def test_nothing_in_common_is_refused() -> None:
    with pytest.raises(PromptError, match="no word in common"):
        align([START, ROSE, END], [START, BEAR, END], 8)


words = st.lists(st.integers(1, 5), min_size=1, max_size=8)


@given(words, st.lists(st.tuples(st.integers(0, 8), st.integers(1, 5)), max_size=6))
def test_a_source_inside_its_destination_meets_its_own_tokens(source: list[int], added: list[tuple[int, int]]) -> None:
    destination = list(source)
    for place, token in added:
        destination.insert(place, token)
    one, other = [START, *source, END], [START, *destination, END]
    found = align(one, other, 20)
    assert [other[j] for j in found[: len(one)]] == one
    assert all(a < b for a, b in zip(found[: len(one)], found[1 : len(one)], strict=False))


@given(words, words)
def test_any_pair_is_aligned_in_order_or_refused(source: list[int], destination: list[int]) -> None:
    one, other = [START, *source, END], [START, *destination, END]
    try:
        found = align(one, other, 20)
    except PromptError:
        assert not set(source) & set(destination)
        return
    assert len(found) == 20
    assert found == sorted(found)
    assert found[0] == 0 and found[len(one) - 1] == len(other) - 1 and found[-1] <= 19
