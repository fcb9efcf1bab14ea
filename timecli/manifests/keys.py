"""The tables of a manifest and their keys.

Each dataclass is one TOML table. A field says how its value is read and what editors show of it, so that the reader,
the schema and the reference cannot drift apart.
"""

from __future__ import annotations

from dataclasses import dataclass

from timecli.manifests import kinds
from timecli.manifests.reading import key, table

AUGMENTATIONS = ("A photo of {}", "An image of {}", "A picture of {}")
"""The textual augmentations of Orgad et al. (2023), appendix C; `{}` stands for the prompt."""
WORDINGS = ("A photo of {}", "A painting of {}", "A drawing of {}", "{} in the snow", "{} on the beach")
"""Wordings in front of the prompt and behind it: with the everyday world preserved they reach more than the paper's."""


@dataclass(frozen=True)
class Probe:
    """A prompt that is not edited but looked at, with the prompt that names the attribute."""

    prompt: str = key(kinds.TEXT, "What is drawn.")
    destination: str = key(kinds.TEXT, "The same prompt with the attribute named, against which the judge decides.")


PROBES = kinds.list_of(table(Probe, '{ prompt = "…", destination = "…" }'), minimum=0)


@dataclass(frozen=True)
class Edit:
    """One assumption: what `source` shows becomes what `destination` shows."""

    source: str = key(kinds.TEXT, "What is assumed: a prompt that leaves the attribute open.")
    destination: str = key(kinds.TEXT, "What it should draw: the same prompt with the attribute named.")
    lam: float | None = key(kinds.LAMBDA, "λ of this pair. Default: solve.lambda.", None, "lambda")
    strength: float | None = key(
        kinds.STRENGTH, "How far the source goes: 1 arrives at the destination. Default: solve.strength.", None
    )
    positives: tuple[Probe, ...] = key(PROBES, "Prompts that should follow without being edited: generality.", ())
    negatives: tuple[Probe, ...] = key(PROBES, "Neighbours that should stay as they are: specificity.", ())
    explicit: tuple[Probe, ...] = key(
        PROBES,
        "Prompts that name another value and keep it: a red rose, after roses became blue.",
        (),
    )


@dataclass(frozen=True)
class Solve:
    """How the edit is computed. Without the everyday world the defaults are those of Orgad et al. (2023), §5.1."""

    lam: float = key(kinds.LAMBDA, "λ of Eq. 4 for every pair: a smaller one edits more.", 0.1, "lambda")
    strength: float = key(
        kinds.STRENGTH,
        "How far every source goes, alone or with other edits: 1 arrives, above 1 overshoots. Without everyday "
        "prompts, how far its target goes: C* becomes C + strength (C* − C).",
        1.0,
    )
    augment: tuple[str, ...] | None = key(
        kinds.either("wordings", WORDINGS, kinds.either(True, AUGMENTATIONS, kinds.NO_TEMPLATES)),
        'Templates that every prompt is edited in: "wordings", true for the paper\'s three, false, or a list of texts '
        'with {}. Default: "wordings" where everyday prompts are preserved, else true.',
        None,
    )
    matrices: tuple[str, ...] = key(
        kinds.list_of(kinds.MATRIX, unique=True), "Which projections of cross-attention are edited.", ("k", "v")
    )
    layers: tuple[int, ...] | None = key(
        kinds.either("all", None, kinds.list_of(kinds.LAYER, unique=True)),
        'Cross-attention layers, counted from the input, from 0; "all" for all.',
        None,
    )
    tokens: str = key(
        kinds.TOKENS,
        '"all": every position of the encoder\'s output, padding too; "prompt": up to the end token.',
        "all",
    )
    clip_skip: int = key(
        kinds.COUNT,
        "The text encoder's layer that the model is drawn with, counted from the last as A1111 counts; 1 is the last.",
        1,
    )
    length: int | None = key(
        kinds.COUNT,
        "Positions that a diffusion transformer's text is filled up to, and cut at: ComfyUI fills T5's up to 256 for "
        "FLUX.1 and to 77 for SD 3. Default: as many as diffusers draws with.",
        None,
    )

    @property
    def everywhere(self) -> bool:
        """Whether every map that reads text is edited, and not only some keys, values or layers."""
        return self.layers is None and set(self.matrices) == {"k", "v"}


@dataclass(frozen=True)
class Preserve:
    """What should stay. It enters the inverse only."""

    prompts: tuple[str, ...] = key(kinds.list_of(kinds.TEXT, minimum=0), "Prompts that stay, by name.", ())
    weight: float = key(kinds.LAMBDA, "How much they count, relative to the edits' own prompts.", 1.0)
    everyday: bool | str = key(
        kinds.either(True, True, kinds.either(False, False, kinds.TEXT)),
        "Preserve everyday prompts in expectation: true for the model's list or ours, a .txt file with one prompt a "
        "line, or false, which is the paper's Eq. 5.",
        True,
    )
    everyday_weight: float = key(
        kinds.number(0, 1e12),
        "How much everyday prompts count, relative to the edits' own prompts; 0 is everyday = false.",
        3.0,
    )

    @property
    def world(self) -> bool:
        """Whether the everyday world is preserved."""
        return self.everyday is not False and self.everyday_weight > 0


@dataclass(frozen=True)
class Verify:
    """What `timecli verify` renders beyond the edits' own prompts, and what it demands."""

    prompts: tuple[str, ...] = key(kinds.list_of(kinds.TEXT, minimum=0), "More prompts to look at.", ())
    seeds: int = key(kinds.COUNT, "Pictures of every prompt.", 8)
    steps: int | None = key(
        kinds.STEPS, "Denoising steps with which the thresholds hold. Default: that of the model's kind.", None
    )
    guidance: float | None = key(
        kinds.GUIDANCE,
        "Classifier-free guidance scale with which the thresholds hold. Default: that of the model's kind.",
        None,
    )
    efficacy: float | None = key(kinds.SHARE, "Least share of the sources' pictures that show the destination.", None)
    generality: float | None = key(kinds.SHARE, "Least share of the positives' pictures that follow.", None)
    specificity: float | None = key(kinds.SHARE, "Least share of the negatives' pictures that stay.", None)
    explicit: float | None = key(kinds.SHARE, "Least share of the explicit prompts' pictures that stay.", None)
    kept: float | None = key(
        kinds.SHARE,
        "Least likeness of what should stay to the pictures before: a cosine in the judge's features.",
        None,
    )
    worst: float | None = key(
        kinds.SHARE, "Least likeness of any everyday prompt, of those that the edit moves most.", None
    )
    reached: float | None = key(
        kinds.SHARE, "Least likeness of what should follow to the oracle's pictures, measured as kept.", None
    )


@dataclass(frozen=True)
class Balance:
    """Two descriptions of one thing, and how often the first should be drawn (Orgad et al. 2023, §6)."""

    descriptions: tuple[str, str] = key(
        kinds.pair_of(kinds.TEXT), "The two that the judge tells apart; one is the edit's destination."
    )
    validation: tuple[str, ...] = key(
        kinds.one_or_list(kinds.TEXT), "The prompt, or prompts, on which `timecli tune` counts."
    )
    prompts: tuple[str, ...] = key(
        kinds.list_of(kinds.TEXT, minimum=0), "The prompts on which `timecli bench` counts.", ()
    )
    target: float = key(kinds.SHARE, "Share of pictures of the first description.", 0.5)
