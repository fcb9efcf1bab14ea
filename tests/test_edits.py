"""Every ready-made manifest is valid, says which model it is for, and suits it."""

from pathlib import Path

import pytest

from timecli.editing import compiling
from timecli.manifests.manifest import load
from timecli.text.encoding import ClipEncoder, Tower
from timecli.text.readers import TextEncoder
from timecli.text.tokenizers import clip_tokenizer

EDITS = Path(__file__).parent.parent / "edits"
PICTUREBOOK = sorted((EDITS / "picturebook").glob("*.toml"))
SD14 = sorted((EDITS / "sd-1.4").rglob("*.toml"))


def test_there_are_as_many_as_promised() -> None:
    assert len(PICTUREBOOK) >= 8
    assert len(list((EDITS / "sd-1.4" / "professions").glob("*.toml"))) == 35


@pytest.mark.parametrize("path", PICTUREBOOK + SD14, ids=lambda path: path.stem)
def test_manifest(path: Path) -> None:
    manifest = load(path)
    assert manifest.name == path.stem
    assert manifest.description.endswith(".")
    assert manifest.model == ("picturebook" if path in PICTUREBOOK else "SD 1.4")


@pytest.mark.parametrize("path", PICTUREBOOK, ids=lambda path: path.stem)
def test_picturebook_can_encode_it(path: Path, encoder: TextEncoder) -> None:
    assert compiling.problems(load(path), encoder) == []


@pytest.mark.parametrize("path", PICTUREBOOK, ids=lambda path: path.stem)
def test_picturebook_knows_every_word(path: Path, encoder: TextEncoder) -> None:
    """A word that falls into pieces was never drawn."""
    for pair in load(path).edits:
        prompts = [
            pair.source,
            pair.destination,
            *(p for t in (*pair.positives, *pair.negatives) for p in (t.prompt, t.destination)),
        ]
        for prompt in prompts:
            assert len(encoder.tokens(prompt)) == len(prompt.split()) + 2, prompt


@pytest.mark.parametrize("path", SD14, ids=lambda path: path.stem)
def test_sd14_pairs_align(path: Path) -> None:
    """Alignment needs tokens only, so that it can be checked without the model."""
    aligner = ClipEncoder((Tower(clip_tokenizer(), _Sizes()),), fingerprints=("",))  # type: ignore[arg-type]
    manifest = load(path)
    assert compiling.problems(manifest, aligner) == []
    for pair in manifest.edits:
        assert len(aligner.alignment(pair.source, pair.destination)) == 77


class _Sizes:
    """As much of a text model as alignment asks for."""

    length = 77
