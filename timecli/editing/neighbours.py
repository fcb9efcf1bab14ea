"""What stands next to an edited thing in a model's text space: everyday nouns that an edit may take along.

Near is near at the end token: the cosine of its states, less their mean over the everyday prompts. It finds what people
would call neighbours more often than the noun's own token, all positions, or how far the edit takes a noun along.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from timecli.editing import forecast
from timecli.editing.delta import Delta
from timecli.manifests import drafts
from timecli.manifests.drafts import Draft
from timecli.manifests.plurals import plural_of, singular_of, with_article
from timecli.manifests.values import ADDED, GENDERED
from timecli.manifests.wording import Change, capital
from timecli.models.checkpoint import Checkpoint
from timecli.models.streams import TEXT
from timecli.text.everyday import Everyday
from timecli.text.readers import TextEncoder
from timecli.text.uisyntax import unknown

COUNT = 5
ALONG = 0.55
"""The share of its way from which on a noun counts as another word for what is edited, or a kind of it, when nothing is
preserved by name. Of the nouns of picturebook's validation and test edits (text alone) other words for the source go
0.55 to 0.95, all others but one up to 0.54. That is of one of each: several go along with several of anything."""
STILL = 0.05
"""How far another value must move the text, as a share of what the destination's moves it, to be one to the model."""
_NOUN = re.compile(r"An? ([\w'-]+)")


@dataclass(frozen=True)
class Neighbours:
    """The nearest everyday nouns.

    Attributes:
        tests: their prompts and destinations, the nearest first.
        along: prompts that go all along with the edit, and how far, `(prompt, share)`.
    """

    tests: tuple[tuple[str, str], ...]
    along: tuple[tuple[str, float], ...]


def fitted(draft: Draft, delta: Delta, checkpoint: Checkpoint, encoder: TextEncoder, world: Everyday | None) -> Draft:
    """A draft with the value that a model assumes and the nearest everyday nouns, all of which are preserved.

    Args:
        draft: what the pair itself gives.
        delta: its edits, with nothing preserved by name.
        checkpoint: the model.
        encoder: the model's.
        world: the everyday prompts; None has no neighbours.
    """
    metric = forecast.metric(checkpoint, delta.origin, encoder)
    known = drafts.with_values(draft, _known(draft.change, encoder, metric))
    if draft.explicit and not known.explicit:
        said = "no explicit prompts: the model seems to know no other value; add some if it does."
        known = replace(known, left_out=(*known.left_out, said))
    draft, named = (
        known,
        [test for test in drafts.named(draft.change) if _readable(draft.change.source, test[0], encoder)],
    )
    if value := _assumed(named, delta, encoder, metric):
        draft = drafts.with_value(draft, value)
    if world is None or not draft.change.has_neighbours:
        return draft
    found = _nearest(draft.change, delta, encoder, metric, world)
    along = tuple(
        f"{prompt!r} would go {share:.0%} of the way with the edit, so it counts as another word for the source; if it "
        "should stay, add it to preserve.prompts."
        for prompt, share in found.along
    )
    kept = tuple(prompt for prompt, _ in found.tests)
    return replace(draft, negatives=found.tests, preserved=draft.preserved + kept, left_out=draft.left_out + along)


def _nearest(change: Change, delta: Delta, encoder: TextEncoder, metric: torch.Tensor, world: Everyday) -> Neighbours:
    """The everyday nouns that are nearest to what is edited, without those that go all along with it."""
    own = {word.lower() for text in (change.source, change.destination) for word in text.split()}
    own |= GENDERED if own & ADDED else set()
    found = [
        (i, match.group(1)) for i, prompt in enumerate(world.prompts) if (match := _NOUN.fullmatch(prompt)) is not None
    ]
    found = [(i, noun) for i, noun in found if not own & {noun.lower(), (plural_of(noun) or noun).lower()}]
    near = _near(change, encoder, world)
    order = sorted(found, key=lambda one: float(near[one[0]]), reverse=True)[: 2 * COUNT]
    tests = [(_said(change, noun), _said(change.of_one(), noun)) for _, noun in order]
    tests = [both for both in tests if all(forecast.aligned(*test, encoder) for test in both)]
    shares = forecast.shares([single for _, single in tests], encoder, delta.operator, metric)
    limit = float("inf") if any(change.old) else ALONG  # a red tulip goes along with a red rose since both are red
    apart = [test for (test, _), share in zip(tests, shares, strict=True) if share < limit]
    along = [(single[0], share) for (_, single), share in zip(tests, shares, strict=True) if share >= limit]
    return Neighbours(tuple(apart[:COUNT]), tuple(along))


def _readable(bare: str, prompt: str, encoder: TextEncoder) -> bool:
    """Whether the model can know every word that a prompt has beside those of the bare one."""
    own = {word.lower() for word in bare.split()}
    return not any(unknown(word, encoder) for word in prompt.split() if word.lower() not in own)


def _known(change: Change, encoder: TextEncoder, metric: torch.Tensor) -> list[tuple[str, str]]:
    """Prompts that name another value, of values that the model can know: they have few pieces and move the text."""
    tests = [(bare, test) for bare, test in drafts.others(change) if _readable(bare, test[0], encoder)]
    said = [(bare, test) for bare, test in tests if all(forecast.aligned(bare, text, encoder) for text in test)]
    lengths = [
        [forecast.length(way.change, metric) for way in forecast.ways([(bare, text) for text in test], encoder, metric)]
        for bare, test in said
    ]
    return [test for (_, test), (moved, wanted) in zip(said, lengths, strict=True) if moved > STILL * wanted]


def _assumed(
    named: Sequence[tuple[str, str]], delta: Delta, encoder: TextEncoder, metric: torch.Tensor
) -> tuple[str, str] | None:
    """Of prompts that each name another value, the one that an edit takes along most; None where that cannot be told.

    To a model that assumes red, "a red rose" is nearly "a rose".
    """
    shares = forecast.told(named, encoder, delta.operator, metric)
    found = [(share, test) for share, test in zip(shares, named, strict=True) if share is not None]
    return max(found)[1] if found else None


def _said(change: Change, noun: str) -> tuple[str, str]:
    prompt, destination = change.said_of(noun)
    return capital(prompt), capital(destination)


def _near(change: Change, encoder: TextEncoder, world: Everyday) -> torch.Tensor:
    """How near each everyday prompt is to the bare noun, `[n]`."""
    single = singular_of(change.noun) if change.plural else change.noun
    bare = with_article(single) if single and (change.article == "a" or change.plural) else change.noun
    end = encoder.own(capital(bare))[-1]
    ends = world.ends[TEXT].double()
    mean = ends.mean(0)
    own = encoder.embed([capital(bare)], end + 1)[0][end] - mean
    return torch.nn.functional.cosine_similarity(ends - mean, own[None], dim=1)
