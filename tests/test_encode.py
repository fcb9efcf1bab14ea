"""Prompts are encoded as transformers encodes them, and paired as the paper pairs them."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from timecli.drawing import libraries
from timecli.errors import CheckpointError, PromptError
from timecli.manifests.keys import AUGMENTATIONS
from timecli.manifests.manifest import Manifest, parse
from timecli.models import layouts
from timecli.models.checkpoint import open_checkpoint
from timecli.text import encoding, readers, tokenizers
from timecli.text.clip import TextTower
from timecli.text.fingerprints import fingerprint
from timecli.text.pairing import Columns, augmented, columns
from timecli.text.readers import TextEncoder
from timecli.text.tokenizers import clip_tokenizer

from .conftest import PICTUREBOOK, ROSES, Run

CPU = torch.device("cpu")
TOWER = layouts.SD1.towers[0]
TOML = 'name = "x"\n[[edit]]\nsource = "A rose"\ndestination = "A blue rose"\n'


def the_columns(manifest: Manifest, encoder: TextEncoder) -> Columns:
    """All blocks as one."""
    return Columns(*(torch.cat(part) for part in zip(*columns(manifest, encoder, None), strict=True)))


@pytest.fixture(scope="module")
def small_encoder(small: Path) -> TextEncoder:
    return encoding.read_text_encoder(open_checkpoint(small), None, CPU)


def test_the_packaged_vocabulary_is_clips() -> None:
    tokenizer = clip_tokenizer()
    assert len(tokenizer) == 49408
    assert tokenizer.ids("a photo of a rose") == [49406, 320, 1125, 539, 320, 3568, 49407]
    assert tokenizer.ids("A CEO, naïve")[0] == 49406 and tokenizer.pad == 49407


def test_embeddings_equal_transformers_own(small: Path, small_encoder: TextEncoder) -> None:
    weights = open_checkpoint(small).text_encoders()[0]
    config = CLIPTextConfig(
        hidden_size=64, intermediate_size=128, num_hidden_layers=1, num_attention_heads=1, vocab_size=49408,
        bos_token_id=49406, eos_token_id=49407, pad_token_id=49407,
    )  # fmt: skip
    model = CLIPTextModel(config).eval()
    getattr(model, "text_model", model).load_state_dict(
        {name: tensor for name, tensor in weights.items() if "position_ids" not in name}
    )
    tokens = torch.tensor([[49406, 320, 3568, 49407, *[49407] * 73]])
    expected = model(input_ids=tokens).last_hidden_state[0].double()
    assert torch.allclose(small_encoder.embed(["a rose"])[0], expected, atol=1e-6)
    assert not torch.allclose(small_encoder.embed(["a nose"])[0], expected, atol=1e-2)


def test_repeated_prompts_are_the_same_rows(encoder: TextEncoder) -> None:
    states = torch.stack(list(encoder.embed(["A rose", "A dog", "A rose"])))
    assert states.shape == (3, 77, 192) and states.dtype == torch.float64
    assert torch.equal(states[0], states[2]) and not torch.equal(states[0], states[1])


def test_a_prompt_that_would_be_cut_is_refused(encoder: TextEncoder) -> None:
    assert len(encoder.tokens("rose " * 75)) == 77
    with pytest.raises(PromptError, match="has 78 tokens and the text encoder reads 77"):
        encoder.tokens("rose " * 76)


def test_an_counts_as_a(encoder: TextEncoder) -> None:
    assert encoder.alignment("An apple", "A blue apple")[:4] == [0, 1, 3, 4]


def test_nothing_in_common_names_both_prompts(encoder: TextEncoder) -> None:
    with pytest.raises(PromptError, match="'Roses' -> 'Blue poppies': source and destination have no word in common"):
        encoder.alignment("Roses", "Blue poppies")


def test_augmentations_lower_a_leading_article() -> None:
    assert augmented("A rose", AUGMENTATIONS) == [
        "A rose",
        "A photo of a rose",
        "An image of a rose",
        "A picture of a rose",
    ]
    assert augmented("Roses", ["A photo of {}"]) == ["Roses", "A photo of Roses"]
    assert augmented("A rose", ()) == ["A rose"]


def test_columns_of_a_pair(encoder: TextEncoder) -> None:
    found = the_columns(parse(TOML + "[preserve]\neveryday = false\n"), encoder)
    assert found.source.shape == found.destination.shape == (4 * 77, 192)
    assert torch.equal(found.source[0], found.destination[0]), "the start token sees nothing of what follows"
    assert torch.equal(found.source[2], encoder.embed(["A rose"])[0][2])
    assert torch.equal(found.destination[2], encoder.embed(["A blue rose"])[0][3]), "rose is edited towards (blue) rose"
    assert torch.equal(found.weight, torch.full((4 * 77,), 10.0, dtype=torch.float64))


def test_columns_without_padding_and_with_preserved_prompts(encoder: TextEncoder) -> None:
    options = (
        '[solve]\ntokens = "prompt"\naugment = false\nlambda = 0.5\n[preserve]\nprompts = ["A tulip"]\nweight = 3.0\n'
    )
    found = the_columns(parse(TOML + options), encoder)
    assert len(found.source) == 4 + 4
    assert torch.equal(found.source[4:], found.destination[4:])
    assert found.weight.tolist() == [2.0] * 4 + [6.0] * 4


def test_fp16_and_fp32_copies_are_one_encoder(picturebook: Path, picturebook_fp32: Path, small: Path) -> None:
    half, full, other = (
        fingerprint(open_checkpoint(path).text_encoders()) for path in (picturebook, picturebook_fp32, small)
    )
    assert half == full != other


def test_a_fingerprint_is_the_same_in_every_version() -> None:
    """Delta files hold it; with another one they would fit no model any more."""
    weights = {"b.weight": torch.arange(4.0), "a.bias": torch.ones(2), "position_ids": torch.arange(3)}
    assert fingerprint([weights]) == "8bf92d0b398b506e576a447f82785d02b1aa99d0e5a4acf9013472cc36b84af7"
    renamed = {"a.weight": weights["a.bias"], **{name: weights[name] for name in ("b.weight", "position_ids")}}
    assert fingerprint([renamed]) != fingerprint([weights]) != fingerprint([weights, weights])


def test_what_is_remembered_has_a_limit(encoder: TextEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = ["A rose", "A dog", "A tulip", "A house"]
    wanted = encoder.embed(prompts)
    encoder.fresh()
    monkeypatch.setattr(readers, "MEMORY", 2 * wanted[0].float().nbytes)
    for _ in range(2):
        assert torch.equal(torch.stack(list(encoder.embed(prompts))), torch.stack(list(wanted)))
        assert [*encoder.memory] == prompts[:2]
    encoder.fresh()
    assert not encoder.memory


def test_a_foreign_vocabulary_is_refused(picturebook: Path, tmp_path: Path) -> None:
    weights = open_checkpoint(picturebook).text_encoders()[0]
    with pytest.raises(CheckpointError, match="has a vocabulary of 934 tokens, not CLIP's 49408"):
        encoding.load(weights, TOWER, None, None, CPU, "model")
    del weights["encoder.layers.0.mlp.fc1.weight"]
    with pytest.raises(CheckpointError, match="does not fit|incomplete"):
        encoding.load(weights, TOWER, picturebook.parent / "config" / "tokenizer", None, CPU, "model")


def test_a_tensor_too_few_or_too_many_in_a_text_encoder_is_named(small: Path) -> None:
    weights, name = open_checkpoint(small).text_encoders()[0], "encoder.layers.0.mlp.fc2.bias"
    assert encoding.load(weights, TOWER, None, None, CPU, "model").model.width == 64, "the control"
    fewer = {key: tensor for key, tensor in weights.items() if key != name}
    for wrong in (fewer, weights | {name: torch.zeros(3)}):
        with pytest.raises(CheckpointError, match=rf"of model does not fit CLIP's \({name} differs\)"):
            encoding.load(wrong, TOWER, None, None, CPU, "model")
    with pytest.raises(CheckpointError, match=r"\(more differs\)"):
        encoding.load(weights | {"more": torch.zeros(3)}, TOWER, None, None, CPU, "model")


@pytest.mark.parametrize("penultimate", [False, True])
@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
def test_states_are_transformers_own(activation: str, penultimate: bool) -> None:
    """SD 1 has quick_gelu, SD 2 gelu, SDXL both and the states before the last layer."""
    config = CLIPTextConfig(
        hidden_size=128, intermediate_size=256, num_hidden_layers=5, num_attention_heads=2, hidden_act=activation,
        layer_norm_eps=1e-4, vocab_size=49408, bos_token_id=49406, eos_token_id=49407,
    )  # fmt: skip
    torch.manual_seed(1)
    model = CLIPTextModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape) * 0.1)
    own = {name: tensor for name, tensor in model.state_dict().items() if not name.endswith("position_ids")}
    tower = TextTower(own, 2, activation, 1e-4, 5 - penultimate, not penultimate)
    ids = torch.randint(0, 49408, (3, 77))
    with torch.no_grad():
        output = model(input_ids=ids, output_hidden_states=True)
        wanted = output.hidden_states[-2] if penultimate else output.last_hidden_state
        found = tower.states(ids)
    assert (found - wanted).norm() / wanted.norm() < 1e-6
    assert torch.allclose(tower.states(ids[:, :9]), found[:, :9], atol=1e-5), "no state depends on those behind it"
    other = "gelu" if activation == "quick_gelu" else "quick_gelu"
    assert (replace(tower, activation=other).states(ids) - wanted).norm() / wanted.norm() > 1e-3, "the control"


ODD = [
    "",
    "hello!!! <cat-toy>s",
    "<|endoftext|> x",
    "I'd've  A\tROSE, naïve № 12",
    "日本 🌹 e\u0301",
    "<CAT-TOY>",
    "! !",
]


@pytest.mark.parametrize("form", ["json", "text"])
@pytest.mark.parametrize("pad", ["<|endoftext|>", "!"])
def test_tokens_of_a_folder_are_transformers_own(form: str, pad: str, tmp_path: Path) -> None:
    """In both forms in which tokenizers are saved, with a token that somebody added and another padding."""
    reader = CLIPTokenizer.from_pretrained(PICTUREBOOK / "config" / "tokenizer")
    reader.pad_token = pad
    reader.add_tokens(["<cat-toy>"])
    reader.save_pretrained(tmp_path)
    if form == "text":
        reader.backend_tokenizer.model.save(str(tmp_path))
        (tmp_path / "tokenizer.json").unlink()
        (tmp_path / "added_tokens.json").write_text(json.dumps({"<cat-toy>": len(reader) - 1}))
    known = CLIPTokenizer.from_pretrained(tmp_path)
    own = tokenizers.load(tmp_path, None, len(known), "model")
    assert [own.ids(text) for text in ODD] == [known(text).input_ids for text in ODD]
    assert (own.start, own.end, own.pad) == (known.bos_token_id, known.eos_token_id, known.pad_token_id)
    assert own.ids(ODD[1]) != clip_tokenizer().ids(ODD[1]), "the control"


def test_tokens_of_the_packaged_vocabulary_are_transformers_own(tmp_path: Path) -> None:
    for padding in (None, 0):
        own, known = clip_tokenizer(padding), libraries.tokenizer(clip_tokenizer(padding))
        known.save_pretrained(tmp_path)
        read = CLIPTokenizer.from_pretrained(tmp_path)
        for text in (*ODD, "a photo of an astronaut riding a horse"):
            assert own.ids(text) == read(text).input_ids == known(text).input_ids, text
        assert own.pad == read.pad_token_id == known.pad_token_id


def test_a_tokenizer_is_for_one_text_encoder(picturebook: Path) -> None:
    checkpoint, folder = open_checkpoint(picturebook), picturebook.parent / "config" / "tokenizer"
    assert encoding.read_text_encoder(checkpoint, folder, CPU).tokens("A rose")[0] == 932
    two = replace(checkpoint, texts=checkpoint.texts * 2)
    with pytest.raises(CheckpointError, match="has two tokenizers; give a folder with both as --config"):
        encoding.read_text_encoder(two, folder, CPU)


def test_an_added_token_keeps_its_id(tmp_path: Path) -> None:
    shutil.copytree(PICTUREBOOK / "config" / "tokenizer", tmp_path / "tokenizer")
    (tmp_path / "tokenizer" / "added_tokens.json").write_text('{"<cat-toy>": 2000}')
    with pytest.raises(CheckpointError, match="cannot have the id 2000"):
        tokenizers.load(tmp_path / "tokenizer", None, 935, "model")


@pytest.mark.parametrize("clip_skip", [1, 2])
def test_a_tower_has_the_weights_of_the_pipeline_that_draws_with_it(clip_skip: int, picturebook: Path) -> None:
    """What trains them (`bench --method finetune`) puts them into the pipeline by their names."""
    (tower,) = encoding.read_text_encoder(open_checkpoint(picturebook), None, CPU, clip_skip).towers
    drawn = libraries.text_encoder(tower.model, torch.float32)
    assert {name for name, _ in drawn.named_parameters()} == tower.model.weights.keys()
    assert tower.model.depth == 5 - clip_skip


@pytest.mark.parametrize("form", ["a tokenizer of its own", "CLIP's"])
def test_embeddings_may_be_longer_than_the_tokenizer(
    form: str, run: Run, picturebook_folder: Path, small: Path, tmp_path: Path
) -> None:
    """As after textual inversion, or filled up to a round number: the states of a prompt are the same."""
    model = tmp_path / "model"
    if form == "CLIP's":
        model, name, file = (
            tmp_path / "m.safetensors",
            next(n for n in load_file(small) if "token_embedding" in n),
            small,
        )
        target = model
    else:
        shutil.copytree(picturebook_folder, model)
        target = file = model / "text_encoder" / "model.safetensors"
        name = next(name for name in load_file(file) if "token_embedding" in name)
    tensors = load_file(file)
    tensors[name] = torch.cat([tensors[name], torch.randn(2, tensors[name].shape[1])])
    save_file(tensors, target, {"format": "pt"})
    if form != "CLIP's":
        config = model / "text_encoder" / "config.json"
        about = json.loads(config.read_text())
        for size in (about["vocab_size"], about["vocab_size"] + 2):
            config.write_text(json.dumps({**about, "vocab_size": size}))
            assert run("plan", ROSES, model, "--no-cache").code in (0, 1)
    original = picturebook_folder if form != "CLIP's" else small
    one, other = (encoding.read_text_encoder(open_checkpoint(path), None, CPU) for path in (original, model))
    assert torch.equal(one.embed(["A blue rose"])[0], other.embed(["A blue rose"])[0])
    tensors[name] = tensors[name][:-4]
    save_file(tensors, target, {"format": "pt"})
    with pytest.raises(CheckpointError, match="lacks some|has a vocabulary of|and the text encoder"):
        encoding.read_text_encoder(open_checkpoint(model), None, CPU)
