"""A bench on paper: which models draw which prompts, and what the judge is asked about the pictures.

Everything here follows from manifests and settings alone, so that a run that was stopped finds its place again.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import gcd

from timecli.errors import ManifestError
from timecli.manifests import balances
from timecli.manifests.company import joined
from timecli.manifests.keys import AUGMENTATIONS, WORDINGS, Edit, Preserve
from timecli.manifests.manifest import Manifest, folded, with_lambda, with_strength
from timecli.manifests.rows import Row, rows

BASE = "base"
"""The unedited model."""
METHODS = ("manifest", "time", "everyday", "uce", "finetune", "embedit")
TRAINED = ("finetune", "embedit")
"""Methods that train a text encoder in place of an operator on its states."""
GRIDS = {
    "lambda": ("manifest", "time", "everyday"),
    "weight": ("manifest", "everyday"),
    "strength": ("manifest", "everyday"),
    "matrices": ("manifest", "time", "everyday"),
    "augment": ("manifest", "time", "everyday", "finetune"),
    "eta": ("finetune",),
}
"""What a grid can vary, and for which methods."""

AUGMENTED = {(): "plain", AUGMENTATIONS: "augmented", WORDINGS: "wordings"}
"""What a grid can put for the templates, and how tables call it."""

Texts = tuple[str, str]


@dataclass(frozen=True)
class Configuration:
    """How manifests are edited; what is None is as each manifest says.

    Attributes:
        method: one of `METHODS`. "manifest" is what each manifest says; "time" is the paper's Eq. 5 and "everyday"
            preserves the everyday world, whatever the manifests say.
        lam: λ of every edit.
        weight: `preserve.everyday_weight`.
        strength: of every edit.
        matrices: "v" or "kv".
        augment: the templates; () is none.
        eta: weight decay η of fine-tuning (appendix G).
        bulk: all manifests in one joint edit (appendix F).
    """

    method: str = "time"
    lam: float | None = None
    weight: float | None = None
    strength: float | None = None
    matrices: str | None = None
    augment: tuple[str, ...] | None = None
    eta: float = 0.01
    bulk: bool = False

    @property
    def name(self) -> str:
        """How tables call it."""
        parts = [self.method, *(["bulk"] if self.bulk else [])]
        parts += [f"η={self.eta:g}"] if self.method == "finetune" else []
        parts += [f"λ={self.lam:g}"] if self.lam is not None else []
        parts += [f"weight={self.weight:g}"] if self.weight is not None else []
        parts += [f"strength={self.strength:g}"] if self.strength is not None else []
        parts += [self.matrices] if self.matrices is not None else []
        parts += [AUGMENTED[self.augment]] if self.augment is not None else []
        return " ".join(parts)

    def applied(self, manifest: Manifest) -> Manifest:
        """The manifest as this configuration has it."""
        if self.method == "everyday":
            world, weight = manifest.preserve.everyday, manifest.preserve.everyday_weight
            own = replace(
                manifest.preserve, everyday=world or True, everyday_weight=weight or Preserve().everyday_weight
            )
            manifest = replace(manifest, preserve=own)
        elif self.method != "manifest":
            manifest = _plain(manifest, preserves=self.method == "uce")
        if self.lam is not None:
            manifest = with_lambda(manifest, self.lam)
        if self.strength is not None:
            manifest = with_strength(manifest, self.strength)
        solve, preserve = manifest.solve, manifest.preserve
        if self.matrices is not None:
            solve = replace(solve, matrices=tuple(self.matrices))
        if self.augment is not None:
            solve = replace(solve, augment=self.augment)
        if self.weight is not None:
            preserve = replace(preserve, everyday_weight=self.weight)
        return replace(manifest, solve=solve, preserve=preserve)


def _plain(manifest: Manifest, preserves: bool) -> Manifest:
    """Without what is preserved, more wordings, or strengths, of which the paper has none; UCE preserves by name."""
    preserve = replace(manifest.preserve, everyday=False) if preserves else Preserve(everyday=False)
    plain = with_strength(replace(manifest, preserve=preserve), 1.0)
    return replace(plain, solve=replace(plain.solve, augment=None)) if plain.solve.augment == WORDINGS else plain


@dataclass(frozen=True)
class Group:
    """Pictures of one prompt, one for every seed, and the pairs of texts between which the judge decides.

    A caption has no questions; it is drawn once, to measure the quality of pictures.
    """

    prompt: str
    questions: tuple[Texts, ...]


@dataclass(frozen=True)
class Batch:
    """Groups that one model draws in one go. The model is `BASE` or an edit, called `configuration/manifest`."""

    model: str
    groups: tuple[Group, ...]


@dataclass(frozen=True)
class Job:
    """One edited model: what it is called, what it is made from, and the manifests whose prompts it draws.

    Attributes:
        tested: those that it is measured with.
        crossed: balances whose validation prompts it draws, to see what the edit does to them (Figure 10).
    """

    model: str
    configuration: Configuration
    manifest: Manifest
    tested: tuple[Manifest, ...]
    crossed: tuple[Manifest, ...] = ()


def configurations(methods: Sequence[str], grid: Mapping[str, Sequence[object]], bulk: bool) -> list[Configuration]:
    """Every combination of the grid's values, for the methods that know them."""
    found = []
    for method in methods:
        keys = [key for key in grid if method in GRIDS[key]]
        for values in itertools.product(*(grid[key] for key in keys)):
            chosen = {"lam" if key == "lambda" else key: value for key, value in zip(keys, values, strict=True)}
            found.append(Configuration(method, bulk=bulk, **chosen))  # type: ignore[arg-type]
    return list(dict.fromkeys(found))


def jobs(manifests: Sequence[Manifest], wanted: Sequence[Configuration], cross: bool) -> list[Job]:
    """Every edited model. With `cross`, each also draws the validation prompts of all other manifests."""
    found = []
    for configuration in wanted:
        if configuration.bulk:
            together, kept = joint([configuration.applied(manifest) for manifest in manifests])
            names = {manifest.name for manifest in kept}
            tests = tuple(manifest for manifest in manifests if manifest.name in names)
            found.append(Job(configuration.name, configuration, together, tests))
            continue
        for manifest in manifests:
            others = tuple(other for other in manifests if cross and other is not manifest and other.balance)
            edited = configuration.applied(manifest)
            found.append(Job(f"{configuration.name}/{manifest.name}", configuration, edited, (manifest,), others))
    return found


def joint(manifests: Sequence[Manifest]) -> tuple[Manifest, list[Manifest]]:
    """One joint edit, and the manifests that are in it: of equal sources the first counts (appendix F)."""
    taken: set[str] = set()
    kept = []
    for manifest in manifests:
        sources = {folded(edit.source) for edit in manifest.edits}
        if not sources & taken:
            kept.append(manifest)
            taken |= sources
    return replace(joined(kept), name="bulk"), kept


def batches(
    manifests: Sequence[Manifest], work: Sequence[Job], seeds: int, at_once: int, captions: Sequence[str] = ()
) -> list[Batch]:
    """Everything that is drawn, in order. Every batch but a model's last fills whole batches of the renderer.

    The captions are shared out among the edits of a configuration (appendix C); the unedited model draws all of them.
    """
    size = at_once // gcd(at_once, seeds)
    found = list(_chunked(BASE, _groups(manifests, before=True), size))
    found += _chunked(BASE, [Group(caption, ()) for caption in captions], at_once)
    for configuration, same in itertools.groupby(work, key=lambda job: job.configuration):
        del configuration
        jobs = list(same)
        for i, job in enumerate(jobs):
            found += _chunked(job.model, _groups(job.tested, before=False, crossed=job.crossed), size)
            found += _chunked(job.model, [Group(caption, ()) for caption in captions[i :: len(jobs)]], at_once)
    return found


def tested(manifest: Manifest, beside: Sequence[Edit] = ()) -> list[Row]:
    """The rows of a manifest that are drawn: those with a destination; of a balance the explicit ones alone.

    Args:
        manifest: whose.
        beside: all edits of the solve that it is tested with.
    """
    if manifest.balance:
        return balances.explicit(manifest)
    return [row for row in rows(manifest, beside) if row.destination]


def _groups(manifests: Sequence[Manifest], before: bool, crossed: Sequence[Manifest] = ()) -> list[Group]:
    """Prompts with all that is asked about them: of the unedited model what the oracle is told, too."""
    questions: dict[str, dict[Texts, None]] = {}
    for manifest in manifests:
        for row in tested(manifest):
            pair = (row.prompt, row.destination or "")
            questions.setdefault(row.prompt, {})[pair] = None
            if before and row.oracle:
                questions.setdefault(row.oracle, {})[pair] = None
        for prompt, pair in balances.questions(manifest, oracle=before):
            questions.setdefault(prompt, {})[pair] = None
    for manifest in crossed:
        for prompt in manifest.balance.validation if manifest.balance else ():
            questions.setdefault(prompt, {})[balances.worded(manifest, prompt)] = None
    return [Group(prompt, tuple(pairs)) for prompt, pairs in questions.items()]


def _chunked(model: str, groups: Sequence[Group], size: int) -> Iterator[Batch]:
    for first in range(0, len(groups), size):
        yield Batch(model, tuple(groups[first : first + size]))


def texts(work: Sequence[Batch]) -> Iterator[str]:
    """Every prompt that is drawn and every text that the judge is asked for."""
    for group in (group for batch in work for group in batch.groups):
        yield group.prompt
        for pair in group.questions:
            yield from pair


def require_one_reading(manifests: Sequence[Manifest]) -> None:
    """Refuse manifests whose text is read in different ways: the unedited model is drawn once."""
    first = manifests[0]
    for manifest in manifests:
        for key in ("clip_skip", "length"):
            one, other = getattr(manifest.solve, key), getattr(first.solve, key)
            if one != other:
                raise ManifestError(f"{manifest.name} has {key} {one} and {first.name} {other}; bench them apart.")
