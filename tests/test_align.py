"""Tokens are paired as the paper pairs them, and sensibly where the paper says nothing."""

from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from timecli.errors import PromptError
from timecli.text.align import _longest, align
from timecli.text.segments import Segment, aligned

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
    with pytest.raises(
        PromptError, match="^source and destination have no word in common; name the same thing in both.$"
    ):
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


def longest_by_trying(a: tuple[int, ...], b: tuple[int, ...]) -> int:
    """The length of a longest common subsequence, by the definition."""

    @cache
    def best(i: int, j: int) -> int:
        if i == len(a) or j == len(b):
            return 0
        taken = 1 + best(i + 1, j + 1) if a[i] == b[j] else 0
        return max(taken, best(i + 1, j), best(i, j + 1))

    return best(0, 0)


@given(words, words)
def test_as_many_tokens_as_possible_meet_their_own(source: list[int], destination: list[int]) -> None:
    matches = _longest(source, destination)
    assert all(source[i] == destination[j] for i, j in matches)
    assert all(i < k and j < m for (i, j), (k, m) in zip(matches, matches[1:], strict=False))
    assert len(matches) == longest_by_trying(tuple(source), tuple(destination))


@given(words, st.lists(st.tuples(st.integers(0, 8), st.integers(1, 5)), max_size=6))
def test_a_source_inside_its_destination_is_paired_from_left_to_right(
    source: list[int], added: list[tuple[int, int]]
) -> None:
    """The walk of the paper: each token goes to the first of its kind behind the one before."""
    destination = list(source)
    for place, token in added:
        destination.insert(place, token)
    walked, place = [], 0
    for token in source:
        place = destination.index(token, place)
        walked.append(place)
        place += 1
    assert [j for _, j in _longest(source, destination)] == walked


def test_of_two_equally_long_pairings_the_source_gives_way_first() -> None:
    assert _longest([ROSE, DOG], [DOG, ROSE]) == [(1, 0)]


def test_a_prompt_without_a_word_is_paired_at_its_ends() -> None:
    assert align([START, END], [START, BLUE, END], 5) == [0, 2, 3, 4, 4]


@pytest.mark.parametrize(
    ("source", "destination", "pairs"),
    [
        (("Roses", "</s>", "<>", "<>"), ("Blue", "▁roses", "</s>", "<>"), [1, 2, 3, 3]),
        (("An", "▁apple", "</s>", "<>"), ("A", "▁blue", "▁apple", "</s>"), [0, 2, 3, 3]),
        (("<>", "<>", "A", "▁rose", "</s>"), ("<>", "A", "▁blue", "▁rose", "</s>"), [0, 0, 1, 3, 4]),
        (("<>", "A", "▁blue", "▁rose", "</s>"), ("<>", "<>", "A", "▁rose", "</s>"), [1, 2, 3, 3, 4]),
        (("Rose", "</s>", "<>"), ("Blue", "▁rose", "</s>", "<>"), [1, 2, 3]),
        (("<>", "Rose", "</s>", "<>"), ("<>", "A", "▁blue", "▁rose", "</s>", "<>"), [0, 3, 4, 5]),
        (("Blue", "▁rose", "</s>", "<>"), ("Rose", "</s>", "<>"), [0, 0, 1, 2]),
    ],
    ids=["behind", "an", "before", "a longer source", "a longer destination", "before and behind", "a shorter one"],
)
def test_padding_is_paired_one_by_one_on_either_side(
    source: tuple[str, ...], destination: tuple[str, ...], pairs: list[int]
) -> None:
    def segment(tokens: tuple[str, ...]) -> Segment:
        own = [place for place, token in enumerate(tokens) if token != "<>"]
        return Segment(tokens, own[0], own[-1] + 1)

    assert aligned(segment(source), segment(destination)) == pairs
