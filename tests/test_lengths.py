"""How much of a prompt each text encoder reads, and how far its text is filled up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from safetensors.torch import load_file

from timecli.editing.delta import load_delta
from timecli.errors import PromptError
from timecli.models.checkpoint import open_checkpoint
from timecli.models.streams import POOLED, TEXT
from timecli.text import encoding

from . import oracle, small
from .conftest import Run
from .test_oracle import MANIFEST, PAIR
from .test_transformers import CPU, opened

WORDS = "a pack of roses in the snow"
LIMITS = {
    # words of which all are read, by the tokens that a template has around them
    "sd3": ("CLIP ViT-L", 75), "flux": ("T5-XXL", 511), "chroma": ("T5-XXL", 511), "flux2": ("Mistral Small 3", None),
    "klein": ("Qwen3", None), "qwen-image": ("Qwen2.5-VL 7B", None), "z-image": ("Qwen3 4B", None),
}  # fmt: skip


def long(count: int, first: str = "dog") -> str:
    """A prompt of so many words, each of which is a token."""
    return " ".join([first, *(WORDS.split() * count)[: count - 1]])


@pytest.fixture(scope="module", params=list(small.FAMILIES))
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    name = str(request.param)
    return name, small.saved(name, tmp_path_factory.mktemp(name) / "model")


@pytest.fixture(scope="module")
def flux(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small.saved("flux", tmp_path_factory.mktemp("flux") / "model")


def given(pipeline: Any, family: str, prompt: str) -> torch.Tensor:
    """The text that the pipeline draws with."""
    return torch.cat([states for _, _, states in rows(pipeline, family, prompt)])


def rows(pipeline: Any, family: str, prompt: str) -> oracle.Rows:
    return oracle.TEXTS[family][0](pipeline, oracle.handed(pipeline, prompt))


def test_a_prompt_is_too_long_where_its_text_would_be_cut(model: tuple[str, Path]) -> None:
    """The longest that is read changes with its last word; one word more is refused, with the encoder's name."""
    (family, folder), pipeline = model, opened(model[1])
    encoder = encoding.read_text_encoder(open_checkpoint(folder), None, CPU)
    name, most = LIMITS[family]

    def is_cut(count: int) -> bool:
        one, other = (given(pipeline, family, f"{long(count - 1)} {last}") for last in ("dog", "roses"))
        part = slice(0, 77) if family == "sd3" else slice(None)
        return one.shape == other.shape and torch.equal(one[part], other[part])

    if most is None:  # what a template has behind the prompt is a part of the text
        sizes = [sum(sum(own) for _, own, _ in rows(pipeline, family, long(count))) for count in (1, 500, 515)]
        most = 512 - (sizes[0] - 1)
        assert sizes[1:] == [min(512, 500 + 512 - most), 512]
    else:
        assert is_cut(most + 1) and not is_cut(most)
    assert encoder.tokens(long(most))
    with pytest.raises(PromptError, match=f"the text encoder {name} reads"):
        encoder.tokens(long(most + 1))


def test_a_vector_is_of_what_its_encoder_reads(run: Run, flux: Path, tmp_path: Path) -> None:
    """98 words are more than CLIP's 77 tokens: its vector is that of the first, as the pipeline has it."""
    front = (f"{PAIR[0]} {long(91)}", f"{PAIR[1]} {long(91)}")
    behind = (f"{long(91)} {PAIR[0]}", f"{long(91)} {PAIR[1]}")
    before = load_file(flux / "transformer" / "diffusion_pytorch_model.safetensors")
    for (source, destination), streams in ((front, {TEXT, POOLED}), (behind, {TEXT})):
        (tmp_path / "m.toml").write_text(MANIFEST.replace(PAIR[0], source).replace(PAIR[1], destination))
        done = run("edit", tmp_path / "m.toml", flux, "-o", tmp_path / "out", "--delta", tmp_path / "d", "--force")
        assert done.code == 0, done.err
        assert set(load_delta(tmp_path / "d").operators) == streams, "CLIP reads nothing of what differs behind"
        after = load_file(tmp_path / "out" / "transformer" / "diffusion_pytorch_model.safetensors")
        operators = oracle.operators(opened(flux), "flux", source, destination)
        for matrix in open_checkpoint(flux).family.matrices:
            weight = before[matrix.names[1]].double()
            wanted = oracle.edited(weight, operators[matrix.stream])
            assert (after[matrix.names[1]] - wanted).norm() <= 1e-5 * weight.norm(), matrix
    done = run("plan", tmp_path / "m.toml", flux, "--no-cache")
    assert done.code == 0, done.err


def test_the_everyday_world_stands_beside_a_vector_that_does_not_change(run: Run, flux: Path, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("A dog\nA painting of the snow\n")
    text = MANIFEST.replace("everyday = false", 'everyday = "list.txt"')
    (tmp_path / "m.toml").write_text(
        text.replace(PAIR[0], f"{long(91)} {PAIR[0]}").replace(PAIR[1], f"{long(91)} {PAIR[1]}")
    )
    for command in (("edit", "--delta", tmp_path / "d"), ("plan",)):
        done = run(command[0], tmp_path / "m.toml", flux, *command[1:], "--no-cache")
        assert done.code == 0 and "nan" not in done.out.lower(), done.err + done.out
    assert set(load_delta(tmp_path / "d").operators) == {TEXT}


@pytest.mark.parametrize("family", ["flux", "sd3", "klein"])
def test_a_given_length_is_what_the_text_is_filled_up_to(family: str, run: Run, tmp_path: Path) -> None:
    folder = small.saved(family, tmp_path / "model")
    pipeline, checkpoint = opened(folder), open_checkpoint(folder)
    plain = len(encoding.read_text_encoder(checkpoint, None, CPU).embed([PAIR[0]])[0])
    for length in (77, 300):  # of SD 3 less and more than diffusers' own
        encoder = encoding.read_text_encoder(checkpoint, None, CPU, length=length)
        found = encoder.embed([PAIR[0]])[0]
        options = {"flux": {"prompt_2": None}, "sd3": {"prompt_2": None, "prompt_3": None}}.get(family, {})
        with torch.no_grad():
            wanted = pipeline.encode_prompt(prompt=[PAIR[0]], max_sequence_length=length, **options)[0][0]
        assert len(found) == len(wanted) != plain
        assert (found - wanted).norm() <= 1e-5 * wanted.norm()
    (tmp_path / "m.toml").write_text(MANIFEST)
    (tmp_path / "short.toml").write_text(MANIFEST.replace("[solve]", "[solve]\nlength = 77"))
    for name, options in (("m", ()), ("short", ()), ("option", ("--length", "77"))):
        manifest = tmp_path / ("m.toml" if name == "option" else f"{name}.toml")
        done = run("edit", manifest, folder, "--delta", tmp_path / name, *options)
        assert done.code == 0, done.err
    deltas = {name: load_delta(tmp_path / name) for name in ("m", "short", "option")}
    assert [deltas[name].origin.length for name in deltas] == [None, 77, 77]
    assert torch.equal(deltas["short"].operator.left, deltas["option"].operator.left)
    assert abs(deltas["short"].operator.norm / deltas["m"].operator.norm - 1) > 1e-3, "another length is another edit"


def test_pictures_are_drawn_with_the_given_length(
    run: Run, flux: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And none that was drawn with another is taken for one of them."""
    drawn: list[int] = []
    encode = diffusers.FluxPipeline.encode_prompt

    def listen(self: Any, *given: Any, **values: Any) -> Any:
        drawn.append(values["max_sequence_length"])
        return encode(self, *given, **values)

    monkeypatch.setattr(diffusers.FluxPipeline, "encode_prompt", listen)
    (tmp_path / "m.toml").write_text(MANIFEST)
    (tmp_path / "short.toml").write_text(MANIFEST.replace("[solve]", "[solve]\nlength = 99"))
    for name, length in (("m", 512), ("short", 99)):
        drawn.clear()
        command = ("verify", tmp_path / f"{name}.toml", flux, "-o", tmp_path / "report", "--seeds", 1, "--steps", 1)
        done = run(*command, "--no-cache", "--force")
        assert done.code == 0, done.err
        assert set(drawn) == {length}
    assert run("edit", tmp_path / "short.toml", flux, "--delta", tmp_path / "d").code == 0
    done = run("verify", tmp_path / "m.toml", flux, tmp_path / "d", "-o", tmp_path / "report", "--force")
    assert done.code == 2 and "was compiled with length 99" in done.err


def test_a_length_that_is_not_the_model_s_is_refused(run: Run, flux: Path, small: Path, tmp_path: Path) -> None:
    (tmp_path / "m.toml").write_text(MANIFEST)
    for model, length, sentence in (
        (flux, 513, "reads 512 tokens; solve.length 513 is more"),
        (flux, 4, "the length that was given is 4; shorten it, or give a larger length"),
        (small, 77, "leave out solve.length"),
    ):
        done = run("edit", tmp_path / "m.toml", model, "--delta", tmp_path / "d", "--length", length)
        assert done.code == 2 and sentence in done.err, done.err
    assert not (tmp_path / "d").exists()


def test_everyday_prompts_are_of_one_length(run: Run, flux: Path, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("A dog\nA painting of the snow\n")
    (tmp_path / "m.toml").write_text(MANIFEST.replace("everyday = false", 'everyday = "list.txt"'))
    done = run("everyday", flux, "--list", tmp_path / "list.txt", "--length", 77, "-o", tmp_path / "world")
    assert done.code == 0, done.err
    command = ("edit", tmp_path / "m.toml", flux, "--delta", tmp_path / "d", "--everyday", tmp_path / "world")
    done = run(*command)
    assert done.code == 2 and "made for another solve.length" in done.err
    done = run(*command, "--length", 77)
    assert done.code == 0, done.err
