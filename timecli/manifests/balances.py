"""A balance: what is drawn and asked for it, its oracle, and what a share says (Orgad et al. 2023, §6)."""

from __future__ import annotations

import random
from collections.abc import Iterator

from timecli.manifests.keys import Balance
from timecli.manifests.manifest import Manifest, same
from timecli.manifests.rows import BALANCE, FOLLOW, FOLLOWED, Row, rows


def counted(balance: Balance) -> tuple[str, ...]:
    """The prompts on which a bench counts: the balance's own, or those of validation where it has none."""
    return balance.prompts or balance.validation


def worded(manifest: Manifest, prompt: str) -> tuple[str, str]:
    """The balance's two descriptions in the wording of a prompt: in place of the source, where that occurs in it."""
    assert manifest.balance is not None
    one, other = (_in_place(manifest.edits[0].source, text, prompt) for text in manifest.balance.descriptions)
    return one, other


def _in_place(source: str, description: str, prompt: str) -> str:
    start = f" {prompt} ".lower().find(f" {source.lower()} ")
    if start < 0:
        return description
    text = prompt[:start] + description + prompt[start + len(source) :]
    return text[0].upper() + text[1:] if prompt[0].isupper() else text


def questions(manifest: Manifest, oracle: bool) -> Iterator[tuple[str, tuple[str, str]]]:
    """Every prompt of a balance with the two descriptions between which the judge decides; none without a balance.

    Args:
        manifest: with a balance or without.
        oracle: whether the oracle's prompts are among them, which name one description or the other.
    """
    if manifest.balance is None:
        return
    for prompt in (*manifest.balance.validation, *manifest.balance.prompts):
        yield prompt, worded(manifest, prompt)
    for prompt in counted(manifest.balance) if oracle else ():
        pair = worded(manifest, prompt)
        for told in pair:
            yield told, pair


def asked(prompt: str, seed: int, target: float) -> int:
    """Which description the oracle is asked for in one picture, 0 or 1.

    The oracle is the unedited model that is told one of the two in every prompt, by chance (§6.4). The shares that
    Table 3 has for it are multiples of 1 / 120, so it draws the five test prompts with 24 seeds, as all others do.

    Args:
        prompt: without a description.
        seed: of the picture; the same prompt and seed are always asked for the same.
        target: how often it is the first.
    """
    return int(random.Random(f"{seed} {prompt}").random() >= target)


def explicit(manifest: Manifest) -> list[Row]:
    """Prompts that name a description and should keep it: those that no edit goes to, and the edits' own (§6.4)."""
    assert manifest.balance is not None
    source, told = manifest.edits[0].source, manifest.balance.descriptions
    one, other = worded(manifest, source)
    named = [
        Row("explicit", *pair)
        for text, pair in zip(told, ((one, other), (other, one)), strict=True)
        if not any(same(text, edit.destination) for edit in manifest.edits)
    ]
    return list(dict.fromkeys([*named, *(row for row in rows(manifest) if row.kind == "explicit")]))


def distance(share: float, target: float) -> float:
    """Δ: how far a share is from the target, 1 at the farthest (§6.3)."""
    return abs(share - target) / max(target, 1 - target)


def interval(share: float, pictures: int) -> tuple[float, float]:
    """Between what the true share is, with a confidence of 95 %, after so many pictures (Wilson 1927)."""
    square = 1.96**2 / pictures
    middle, half = share + square / 2, (square * (share * (1 - share) + square / 4)) ** 0.5
    return max((middle - half) / (1 + square), 0.0), min((middle + half) / (1 + square), 1.0)


def measured_as_balance(manifest: Manifest) -> bool:
    """Whether `verify` counts a share in place of efficacy: there is a balance, and no threshold asks for more."""
    return manifest.balance is not None and all(getattr(manifest.verify, metric) is None for metric in FOLLOWED)


def balance_rows(manifest: Manifest) -> list[Row]:
    """A manifest's prompts where its balance is measured: what should follow is as often as not what it was."""
    assert manifest.balance is not None
    own = [row for row in rows(manifest) if row.kind not in FOLLOW]
    prompts = dict.fromkeys([*manifest.balance.validation, *manifest.balance.prompts])
    pairs = [(prompt, *worded(manifest, prompt)) for prompt in prompts]
    return [*(Row(BALANCE, prompt, one, counts=False, against=other) for prompt, one, other in pairs), *own]
