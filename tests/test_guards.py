"""What an edit relies on without a word: finite text states, the token that UCE takes, and a truthful record."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from timecli.files.safefile import open_file
from timecli.manifests.manifest import parse
from timecli.measuring.rivals import uce_columns
from timecli.models import carried
from timecli.models.checkpoint import EDITS, open_checkpoint
from timecli.text import encoding

from .conftest import PICTUREBOOK, ROSES, Run, ldm, small_manifest, small_tensors

CPU = torch.device("cpu")
TOKENS = "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight"


@pytest.mark.parametrize("damage", ["source", "destination", "everything"])
def test_text_states_of_nan_are_refused(damage: str, run: Run, tmp_path: Path) -> None:
    """Weights that are numbers overflow in the states of one word, or of all."""
    tensors = load_file(PICTUREBOOK / "picturebook.safetensors")
    tensors = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
    vocabulary = json.loads((PICTUREBOOK / "config" / "tokenizer" / "vocab.json").read_text())
    words = {"source": ["poppy</w>"], "destination": ["blue</w>"], "everything": list(vocabulary)}[damage]
    for word in words:
        tensors[TOKENS][vocabulary[word]] = torch.tensor([3e38, -3e38]).repeat(96)  # their difference is infinite
    (tmp_path / "config").symlink_to(PICTUREBOOK / "config", target_is_directory=True)
    save_file(tensors, tmp_path / "x.safetensors")
    manifest = tmp_path / "m.toml"
    manifest.write_text('name = "x"\n[[edit]]\nsource = "A poppy"\ndestination = "A blue flower"\n')
    done = run("edit", manifest, tmp_path / "x.safetensors", "-o", tmp_path / "out")
    if damage == "everything":
        assert done.code == 2 and "turns everyday prompts into NaN" in done.err, done.err
    manifest.write_text(manifest.read_text() + "[preserve]\neveryday = false\n")
    done = run("edit", manifest, tmp_path / "x.safetensors", "-o", tmp_path / "out")
    assert done.code == 2 and "the text encoder turns the prompts into NaN" in done.err, done.err
    control = run("edit", manifest, PICTUREBOOK / "picturebook.safetensors", "-o", tmp_path / "out")
    assert control.code == 0, control.err


def test_uce_takes_the_last_token_before_the_end(picturebook: Path) -> None:
    encoder = encoding.read_text_encoder(open_checkpoint(picturebook), None, CPU)
    manifest = parse(
        'name = "x"\n[[edit]]\nsource = "A pack of roses"\ndestination = "A pack of blue roses"\n'
        '[preserve]\nprompts = ["A dog in the snow"]\n'
    )
    columns = uce_columns(manifest, encoder)
    for side, prompts in (
        (columns.source, ("A pack of roses", "A dog in the snow")),
        (columns.destination, ("A pack of blue roses", "A dog in the snow")),
    ):
        for row, prompt in zip(side, prompts, strict=True):
            states, end = encoder.embed([prompt])[0], encoder.tokens(prompt).index(encoder.tokenizer.end)
            same = [i for i, state in enumerate(states) if torch.equal(state, row)]
            assert same == [end - 1], prompt


def test_the_base_hash_is_of_the_matrices_without_their_averages(tmp_path: Path) -> None:
    tensors = small_tensors()
    names = [name for name in tensors if name.startswith("model.diffusion_model.")]
    twins = {f"model_ema.{name.removeprefix('model.').replace('.', '')}": tensors[name] + 1 for name in names}

    def base(**changed: torch.Tensor) -> str:
        save_file(tensors | changed, tmp_path / "x.safetensors")
        return carried.base_hash(open_checkpoint(tmp_path / "x.safetensors"))

    plain, averaged = base(), base(**twins)
    count = sum(place.twin for place in open_checkpoint(tmp_path / "x.safetensors").places)
    assert count == 32, "the averages are found"
    assert plain == averaged
    name = ldm(open_checkpoint(tmp_path / "x.safetensors").places[0].matrix)
    assert base(**{name: tensors[name] + 1}) != plain, "the control"


@pytest.mark.parametrize("twins", [False, True])
def test_the_record_has_the_base_of_the_model(twins: bool, run: Run, small: Path, tmp_path: Path) -> None:
    """Also beside averages, so that `verify` knows the model again."""
    tensors = load_file(small)
    names = [name for name in tensors if name.startswith("model.diffusion_model.") and twins]
    tensors |= {f"model_ema.{name.removeprefix('model.').replace('.', '')}": tensors[name] + 1 for name in names}
    save_file(tensors, tmp_path / "x.safetensors")
    assert run("edit", ROSES, tmp_path / "x.safetensors", "-o", tmp_path / "out").code == 0
    (record,) = json.loads(open_file(tmp_path / "out").metadata[EDITS])
    assert record["base"] == carried.base_hash(open_checkpoint(small))


@pytest.mark.parametrize(("given", "recorded"), [((), 1), (("--strength", "0.5"), 0.5), (("--strength", "1.5"), 1.5)])
def test_the_strength_is_recorded(
    given: tuple[str, ...], recorded: float, run: Run, small: Path, tmp_path: Path
) -> None:
    assert run("edit", ROSES, small, "--delta", tmp_path / "d").code == 0
    done = run("apply", tmp_path / "d", small, "-o", tmp_path / "out", *given, "--json")
    assert done.code == 0 and json.loads(done.out)["strength"] == recorded
    metadata = open_file(tmp_path / "out").metadata
    assert [entry["strength"] for entry in json.loads(metadata[EDITS])] == [recorded]
    assert [entry["strength"] for entry in json.loads(metadata["sd_merge_recipe"])["edits"]] == [recorded]


MAPS, WORDS = "model.diffusion_model.", "cond_stage_model."


@pytest.mark.parametrize("zero", [MAPS, WORDS])
def test_a_model_of_zeros_is_a_sentence(zero: str, run: Run, small: Path, tmp_path: Path) -> None:
    """Nothing is divided by the size of what has none."""
    manifest, model, out = small_manifest(tmp_path), tmp_path / "x.safetensors", tmp_path / "out.safetensors"
    tensors = {
        name: torch.zeros_like(tensor) if name.startswith(zero) and tensor.is_floating_point() else tensor
        for name, tensor in small_tensors().items()
    }
    save_file(tensors, model)
    assert run("edit", manifest, small, "-o", out, "--delta", tmp_path / "d").code == 0
    sentence = "only zeros in the maps" if zero == MAPS else "turns everyday prompts into zeros"
    done = run("plan", manifest, model, "--no-cache")
    assert done.code == 2 and sentence in done.err and "nan" not in done.out + done.err.lower(), done.err
    done = run("export", tmp_path / "d", model, "-o", tmp_path / "lora.safetensors")
    assert done.code == 2 and done.err.count("\n") == 1 and not (tmp_path / "lora.safetensors").exists(), done.err
    done = run("apply", tmp_path / "d", model, "-o", tmp_path / "applied.safetensors")
    assert (done.code == 2 and "only zeros in its maps" in done.err) == (zero == MAPS), done.err
    done = run("everyday", model, "-o", tmp_path / "everyday")
    assert done.code == (2 if zero == WORDS else 0) and ("into zeros" in done.err) == (zero == WORDS), done.err
    for pair in ((model, out), (out, model), (model, small), (small, model), (model, model)):
        done = run("diff", *pair, "--json")
        assert done.code in (0, 1, 2), (pair, done.err)
        json.loads(done.out, parse_constant=lambda text: pytest.fail(f"{text} is no JSON"))
        assert run("diff", *pair).code == done.code
    assert run("plan", manifest, small, "--no-cache").code in (0, 1), "the control"


@pytest.mark.parametrize("parts", [("left", "right"), ("left",), ("right",)])
@pytest.mark.parametrize("options", [(), ("--rank", 1), ("--tolerance", 0.1), ("--format", "diff")])
def test_a_delta_of_zeros_is_not_exported(
    parts: tuple[str, ...], options: tuple[object, ...], run: Run, small: Path, tmp_path: Path
) -> None:
    assert run("edit", ROSES, small, "--delta", tmp_path / "d").code == 0
    tensors = {
        name: torch.zeros_like(tensor) if name in parts else tensor
        for name, tensor in load_file(tmp_path / "d").items()
    }
    save_file(tensors, tmp_path / "zero", open_file(tmp_path / "d").metadata)
    done = run("export", tmp_path / "zero", small, "-o", tmp_path / "lora.safetensors", *options)
    assert done.code == 2 and "changes nothing of" in done.err and done.err.count("\n") == 1, done.err
    assert not (tmp_path / "lora.safetensors").exists()
    assert run("export", tmp_path / "d", small, "-o", tmp_path / "lora.safetensors", *options).code == 0, "the control"
