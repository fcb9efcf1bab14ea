"""Several manifests as one joint edit. Every manifest keeps what a joint solve can keep apart.

Its strengths, lambdas, wordings and weights are its own; what a solve has once must be the same in all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from timecli.errors import ManifestError
from timecli.manifests.keys import Edit, Verify
from timecli.manifests.manifest import Manifest, folded
from timecli.manifests.words import says_all, thing

ONCE = ("matrices", "layers", "tokens", "clip_skip", "length")
"""Keys of `[solve]` that a joint solve has once."""


@dataclass(frozen=True)
class Preserved:
    """A prompt to preserve by name.

    Attributes:
        weight: how much it counts beside 1/λ of an edit's prompt.
        templates: the wordings that it enters the solve with, beside its own.
    """

    prompt: str
    weight: float
    templates: tuple[str, ...]


def preserved(manifest: Manifest) -> list[Preserved]:
    """What a solve preserves by name: in a joint edit without what another manifest edits; see `overruled`."""
    found: dict[str, Preserved] = {}
    for part in manifest.parts or (manifest,):
        for prompt in part.preserve.prompts:
            one = Preserved(prompt, part.preserve.weight / part.solve.lam, part.templates)
            known = found.setdefault(folded(prompt), one)
            if known.weight < one.weight:
                found[folded(prompt)] = one
    gone = {folded(prompt) for prompt, _ in overruled(manifest)}
    return [one for prompt, one in found.items() if prompt not in gone]


def overruled(manifest: Manifest) -> list[tuple[str, Edit]]:
    """Prompts that one manifest of a joint edit preserves and another edits, with that edit, which counts."""
    found: dict[str, Edit] = {}
    for part in manifest.parts:
        others = [edit for edit in manifest.edits if edit not in part.edits]
        for prompt in part.preserve.prompts:
            by = next((edit for edit in others if _about(prompt, edit)), None)
            if by is not None and not any(_about(prompt, edit) for edit in part.edits):
                found[prompt] = by
    return list(found.items())


def _about(prompt: str, edit: Edit) -> bool:
    return says_all(prompt, thing(edit))


def require_names(manifests: Sequence[Manifest]) -> None:
    """Refuse manifests of one name: results go by it."""
    seen: set[str] = set()
    for manifest in manifests:
        if manifest.name in seen:
            raise ManifestError(f"two manifests are called {manifest.name!r}; give each a name of its own.")
        seen.add(manifest.name)


def joined(manifests: Sequence[Manifest]) -> Manifest:
    """One manifest with the edits of all; a single one is as it is.

    Raises:
        ManifestError: they differ in what a solve has once, or edit one source in two ways.
    """
    first = manifests[0]
    if len(manifests) == 1:
        return first
    require_names(manifests)
    edits: dict[str, tuple[Edit, Manifest]] = {}
    for manifest in manifests:
        _require_together(first, manifest)
        for edit in manifest.edits:
            other, owner = edits.setdefault(folded(edit.source), (edit, manifest))
            if folded(other.destination) != folded(edit.destination):
                raise ManifestError(
                    f"{owner.name} edits {edit.source!r} to {other.destination!r} and {manifest.name} to "
                    f"{edit.destination!r}; keep one of them."
                )
    prompts = dict.fromkeys(prompt for manifest in manifests for prompt in manifest.preserve.prompts)
    samples = dict.fromkeys(prompt for manifest in manifests for prompt in manifest.verify.prompts)
    return replace(
        first,
        name="+".join(manifest.name for manifest in manifests),
        edits=tuple(edit for edit, _ in edits.values()),
        description="",
        preserve=replace(first.preserve, prompts=tuple(prompts)),
        verify=Verify(tuple(samples), max(manifest.verify.seeds for manifest in manifests)),
        balance=None,
        text="\n".join(manifest.text for manifest in manifests),
        parts=tuple(manifests),
    )


def _require_together(first: Manifest, manifest: Manifest) -> None:
    """Refuse a manifest that differs from the first in what a solve has once."""
    differ = [f"solve.{key}" for key in ONCE if getattr(manifest.solve, key) != getattr(first.solve, key)]
    if _listed(manifest) != _listed(first):
        differ.append("preserve.everyday")
    if differ:
        raise ManifestError(
            f"{manifest.name} has another {' and '.join(differ)} than {first.name}, which a joint edit has once; make "
            "them the same, or apply one after the other with --stack."
        )


def _listed(manifest: Manifest) -> bool | Path:
    """Which list of everyday prompts a manifest preserves."""
    wanted = manifest.preserve.everyday
    return (manifest.folder / wanted).absolute() if isinstance(wanted, str) else manifest.preserve.world
