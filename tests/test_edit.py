"""The whole edit on the real model, against the paper's own algorithm."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from timecli.editing import applying, compiling
from timecli.editing import delta as deltas
from timecli.errors import CheckpointError, DeltaError, PromptError
from timecli.manifests.manifest import Manifest, parse
from timecli.models import carried, layouts
from timecli.models.checkpoint import Checkpoint, open_checkpoint
from timecli.text import encoding
from timecli.text.fingerprints import fingerprint
from timecli.text.readers import TextEncoder

from .conftest import ldm

CPU = torch.device("cpu")
LAMBDAS = (1e4, 1e2, 1.0, 1e-1, 1e-2, 1e-4, 1e-6)


def roses(lam: float = 0.1, options: str = "") -> Manifest:
    pair = 'source = "A pack of roses"\ndestination = "A pack of blue roses"'
    return parse(f'name = "x"\n[solve]\nlambda = {lam}\n{options}\n[preserve]\neveryday = false\n[[edit]]\n{pair}\n')


@pytest.fixture(scope="module")
def model(picturebook_fp32: Path) -> Checkpoint:
    return open_checkpoint(picturebook_fp32)


@pytest.fixture(scope="module")
def encoder(model: Checkpoint) -> TextEncoder:
    return encoding.read_text_encoder(model, None, CPU)


def paper_columns(encoder: TextEncoder, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Source and destination tokens as the paper pairs them (§4, appendix C), written down by hand for this one edit.

    Every position up to the end token meets the same word; the padding behind follows one by one, and the last repeats.
    """
    (tower,) = encoder.towers
    model = replace(tower.model, weights={name: tensor.to(dtype) for name, tensor in tower.model.weights.items()})
    sources, destinations = [], []
    for template in (
        "A pack of {}roses",
        "A photo of a pack of {}roses",
        "An image of a pack of {}roses",
        "A picture of a pack of {}roses",
    ):
        states = []
        for colour in ("", "blue "):
            ids = tower.padded([tower.tokenizer.ids(template.replace("{}", colour))])
            states.append(model.states(ids)[0].double())
        before = len(template.split())  # the start token and every word in front of "roses"
        rows = [*range(before), *(min(i + 1, 76) for i in range(before, 77))]
        sources.append(states[0])
        destinations.append(states[1][rows])
    return torch.cat(sources), torch.cat(destinations)


def paper(matrix: torch.Tensor, source: torch.Tensor, destination: torch.Tensor, lam: float) -> torch.Tensor:
    """Eq. 5 for one matrix in float64: both sums over all tokens, then the inverse."""
    wide = matrix.double()
    left, right = lam * wide, lam * torch.eye(wide.shape[1], dtype=torch.float64)
    for c, c_star in zip(source, destination, strict=True):
        left = left + torch.outer(wide @ c_star, c)
        right = right + torch.outer(c, c)
    return left @ torch.linalg.inv(right)


@pytest.mark.parametrize("lam", LAMBDAS)
def test_every_matrix_equals_eq_5_on_the_same_embeddings(model: Checkpoint, encoder: TextEncoder, lam: float) -> None:
    source, destination = paper_columns(encoder, torch.float32)
    found = applying.edit_matrices(
        model, [compiling.compile_edit(roses(lam), model, encoder, CPU)], CPU, dtype=torch.float32
    )
    assert len(found.tensors) == 32
    for place, before in model.projections():
        expected = paper(before, source, destination, lam)
        difference = (found.tensors[place.key].double() - expected).norm() / expected.norm()
        assert difference < 1e-6, (place.name, difference)


def test_the_comparison_would_notice_another_pairing(model: Checkpoint, encoder: TextEncoder) -> None:
    source, destination = paper_columns(encoder, torch.float32)
    found = applying.edit_matrices(model, [compiling.compile_edit(roses(), model, encoder, CPU)], CPU)
    place, before = next(model.projections())
    expected = paper(before, source, destination.roll(1, 0), 0.1)
    assert (found.tensors[place.key].double() - expected).norm() / expected.norm() > 1e-3


@pytest.mark.parametrize("lam", [1e4, 1.0, 0.1, 1e-2])
def test_end_to_end_with_the_encoder_in_float32(model: Checkpoint, encoder: TextEncoder, lam: float) -> None:
    """Against an encoder in float64: what remains is the float32 encoder's noise."""
    source, destination = paper_columns(encoder, torch.float64)
    found = applying.edit_matrices(model, [compiling.compile_edit(roses(lam), model, encoder, CPU)], CPU)
    for place, before in model.projections():
        expected = paper(before, source, destination, lam)
        assert (found.tensors[place.key].double() - expected).norm() / expected.norm() < 1e-4


def test_folder_and_file_give_the_same_weights(
    model: Checkpoint, encoder: TextEncoder, picturebook_folder: Path
) -> None:
    folder = open_checkpoint(picturebook_folder)
    delta = compiling.compile_edit(roses(), model, encoder, CPU)
    again = compiling.compile_edit(roses(), folder, encoding.read_text_encoder(folder, None, CPU), CPU)
    assert torch.equal(delta.operator.left, again.operator.left) and delta.origin == again.origin
    one, other = applying.edit_matrices(model, [delta], CPU), applying.edit_matrices(folder, [again], CPU)
    for here, there in zip(model.places, folder.places, strict=True):
        assert here.matrix == there.matrix and torch.equal(one.tensors[here.key], other.tensors[there.key])
    assert carried.base_hash(model) == carried.base_hash(folder)


def test_matrices_and_layers_limit_what_changes(model: Checkpoint, encoder: TextEncoder) -> None:
    delta = compiling.compile_edit(roses(options='matrices = ["v"]\nlayers = [0, 15]'), model, encoder, CPU)
    names = {ldm(m) for m in layouts.SD1.matrices if m.kind == "v" and m.layer in (0, 15)}
    assert {name for _, name in applying.edit_matrices(model, [delta], CPU).tensors} == names
    with pytest.raises(CheckpointError, match="has no cross-attention layer 16; its layers go from 0 to 15"):
        applying.edit_matrices(
            model, [compiling.compile_edit(roses(options="layers = [16]"), model, encoder, CPU)], CPU
        )


def test_the_source_moves_and_more_so_with_a_smaller_lambda(model: Checkpoint, encoder: TextEncoder) -> None:
    shares = [
        compiling.moved(roses(lam), encoder, compiling.compile_edit(roses(lam), model, encoder, CPU).operator)[0]
        for lam in (1e5, 1.0, 1e-3)
    ]
    assert 0 < shares[0] < shares[1] < shares[2] < 1


def same_encoder(delta: deltas.Delta, checkpoint: Checkpoint) -> None:
    applying.require_same_encoder(delta, checkpoint, [fingerprint(checkpoint.text_encoders())])


def test_a_delta_fits_every_model_with_the_same_encoder_and_no_other(
    model: Checkpoint, encoder: TextEncoder, picturebook: Path, small: Path, tmp_path: Path
) -> None:
    delta = compiling.compile_edit(roses(), model, encoder, CPU)
    same_encoder(delta, open_checkpoint(picturebook))
    with pytest.raises(DeltaError, match="has width 192 and .* takes text of width 64"):
        same_encoder(delta, open_checkpoint(small))
    tensors = load_file(picturebook)
    tensors["cond_stage_model.transformer.text_model.final_layer_norm.bias"] += 1
    save_file(tensors, tmp_path / "other.safetensors")
    with pytest.raises(DeltaError, match="compiled for another text encoder"):
        same_encoder(delta, open_checkpoint(tmp_path / "other.safetensors"))


def test_an_edit_that_does_nothing_is_refused(model: Checkpoint, encoder: TextEncoder) -> None:
    pair = '[[edit]]\nsource = "An apple"\ndestination = "A apple"\n'
    other = '[[edit]]\nsource = "A rose"\ndestination = "A blue rose"\n'
    for text in (pair, other + pair):
        with pytest.raises(PromptError, match="'An apple' -> 'A apple': both are the same tokens"):
            compiling.compile_edit(parse('name = "x"\n' + text), model, encoder, CPU)


def test_overflow_and_wrong_widths_are_refused(
    model: Checkpoint, encoder: TextEncoder, picturebook: Path, tmp_path: Path
) -> None:
    delta = compiling.compile_edit(roses(), model, encoder, CPU)
    name = ldm(layouts.SD1.matrices[5])
    tensors = load_file(picturebook)
    save_file({**tensors, name: torch.full_like(tensors[name], 6e4)}, tmp_path / "large.safetensors")
    with pytest.raises(CheckpointError, match=f"{name}, edited, does not fit into float16; use --dtype fp32"):
        applying.edit_matrices(open_checkpoint(tmp_path / "large.safetensors"), [delta], CPU, strength=2.0)
    save_file({**tensors, name: torch.zeros(96, 64)}, tmp_path / "narrow.safetensors")
    with pytest.raises(CheckpointError, match=rf"{name} is \[96, 64\] and the text encoder's width is 192"):
        applying.edit_matrices(open_checkpoint(tmp_path / "narrow.safetensors"), [delta], CPU)


def test_a_bias_is_no_obstacle(model: Checkpoint, encoder: TextEncoder, picturebook: Path, tmp_path: Path) -> None:
    tensors = load_file(picturebook)
    bias = ldm(layouts.SD1.matrices[0]).replace("weight", "bias")
    save_file({**tensors, bias: torch.ones(64)}, tmp_path / "bias.safetensors")
    delta = compiling.compile_edit(roses(), model, encoder, CPU)
    one, other = (
        {
            name: tensor
            for (_, name), tensor in applying.edit_matrices(open_checkpoint(path), [delta], CPU).tensors.items()
        }
        for path in (picturebook, tmp_path / "bias.safetensors")
    )
    assert all(torch.equal(one[name], other[name]) for name in one) and bias not in other


def test_delta_file_and_memory_give_the_same_matrices(model: Checkpoint, encoder: TextEncoder, tmp_path: Path) -> None:
    delta = compiling.compile_edit(roses(), model, encoder, CPU)
    deltas.save_delta(delta, tmp_path / "x.delta")
    one, other = (applying.edit_matrices(model, [d], CPU) for d in (delta, deltas.load_delta(tmp_path / "x.delta")))
    assert all(torch.equal(one.tensors[name], other.tensors[name]) for name in one.tensors)


def test_problems_lists_all_of_them(encoder: TextEncoder) -> None:
    long = "rose " * 80
    pair = '[[edit]]\nsource = "Roses"\ndestination = "Tulips"'
    manifest = parse(f'name = "x"\n{pair}\npositives = [{{ prompt = "{long}", destination = "A rose" }}]\n')
    found = compiling.problems(manifest, encoder)
    assert any("no word in common" in sentence for sentence in found) and any(
        "tokens" in sentence for sentence in found
    )
    assert compiling.problems(roses(), encoder) == []
