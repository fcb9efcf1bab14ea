"""Nothing but what was asked for changes, nothing is half written, and every bad file gets its sentence."""

import json
import os
import pickle
import shutil
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from timecli.errors import CheckpointError, OutputError
from timecli.files.safefile import finite, open_file
from timecli.files.staging import staged
from timecli.files.targets import check_target
from timecli.models import layouts, streams
from timecli.models.checkpoint import EDITS, open_checkpoint
from timecli.models.contents import describe
from timecli.shipping.publish import write_checkpoint

from .conftest import ldm, small_tensors
from .stopped import make_folder

NAME = ldm(layouts.SD1.matrices[0])
ABOUT = {"timecli.test": "yes"}


def data_ranges(path: Path) -> dict[str, bytes]:
    file, content = open_file(path), path.read_bytes()
    return {
        name: content[file.data + e["data_offsets"][0] : file.data + e["data_offsets"][1]]
        for name, e in file.entries.items()
    }


def replacement(path: Path) -> dict[str, torch.Tensor]:
    return {(path, NAME): load_file(path)[NAME] + 1}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e5m2])
def test_one_value_that_is_no_number_is_found_wherever_it_is(dtype: torch.dtype) -> None:
    whole = torch.full((7, 9), torch.finfo(dtype).max, dtype=torch.float64).to(dtype)
    assert finite(whole) and finite(whole[:0]) and finite(torch.ones(2, dtype=torch.bool))
    for place in (0, 31, 62):
        for value in (float("nan"), float("inf"), -float("inf")):
            damaged = whole.float() if dtype.itemsize == 1 else whole.clone()
            damaged.view(-1)[place] = value
            assert not finite(damaged.to(dtype)), (place, value)


@pytest.mark.parametrize("twice", ["a", "__metadata__"])
def test_a_header_that_names_something_twice_is_refused(twice: str, tmp_path: Path) -> None:
    """Readers would not agree on which one counts. The control: named once, the same file is read."""
    entries = {"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}, "__metadata__": {"x": "y"}}
    once = json.dumps(entries)
    for text in (once, f'{once[:-1]}, "{twice}": {json.dumps(entries[twice])}}}'):
        path = tmp_path / "x.safetensors"
        path.write_bytes(struct.pack("<Q", len(text)) + text.encode() + bytes(4))
        if text == once:
            assert list(open_file(path).entries) == ["a"]
            continue
        with pytest.raises(CheckpointError, match="not a complete safetensors file"):
            open_file(path)


def test_only_the_replaced_tensor_changes(small: Path, tmp_path: Path) -> None:
    write_checkpoint(open_checkpoint(small), tmp_path / "out.safetensors", replacement(small), ABOUT, None)
    before, after = data_ranges(small), data_ranges(tmp_path / "out.safetensors")
    assert list(before) == list(after), "the order of the tensors stays"
    assert [name for name in before if before[name] != after[name]] == [NAME]
    assert torch.equal(load_file(tmp_path / "out.safetensors")[NAME], replacement(small)[small, NAME])


def test_two_runs_give_the_same_bytes_with_the_usual_permissions(small: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_checkpoint(open_checkpoint(small), tmp_path / name, replacement(small), ABOUT, None)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    (tmp_path / "plain").touch()
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize(("name", "dtype"), [("F16", torch.float16), ("BF16", torch.bfloat16)])
def test_conversion_touches_every_float_and_nothing_else(
    small: Path, tmp_path: Path, name: str, dtype: torch.dtype
) -> None:
    edited = {key: tensor.to(dtype) for key, tensor in replacement(small).items()}
    write_checkpoint(open_checkpoint(small), tmp_path / "out", edited, ABOUT, dtype)
    before, after = load_file(small), load_file(tmp_path / "out")
    for key, tensor in before.items():
        wanted = edited.get((small, key), tensor.to(dtype) if tensor.is_floating_point() else tensor)
        assert torch.equal(after[key], wanted) and after[key].shape == tensor.shape, key
    assert open_file(tmp_path / "out").entries[NAME]["dtype"] == name


def test_a_folder_is_copied_with_only_the_unets_weights_rewritten(picturebook_folder: Path, tmp_path: Path) -> None:
    model = open_checkpoint(picturebook_folder)
    write_checkpoint(model, tmp_path / "out", {model.places[0].key: torch.zeros(64, 192)}, ABOUT, None)
    before = {file.relative_to(picturebook_folder) for file in picturebook_folder.rglob("*") if file.is_file()}
    assert {file.relative_to(tmp_path / "out") for file in (tmp_path / "out").rglob("*") if file.is_file()} == before
    differ = [f for f in before if (picturebook_folder / f).read_bytes() != (tmp_path / "out" / f).read_bytes()]
    assert differ == [Path("unet/diffusion_pytorch_model.safetensors")]


def test_a_failure_half_way_leaves_the_old_file(small: Path, tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt), staged(target) as part:
        part.write_bytes(b"half")
        raise KeyboardInterrupt
    assert target.read_bytes() == b"old" and list(tmp_path.iterdir()) == [target]


def header(content: bytes) -> bytes:
    return struct.pack("<Q", len(content)) + content


BAD = {
    "empty.safetensors": (b"", "not a complete safetensors file"),
    "text.safetensors": (b"hello, this is not a model at all", "not a complete safetensors file"),
    "huge-header.safetensors": (struct.pack("<Q", 2**60) + b"{}", "not a complete safetensors file"),
    "cut.safetensors": (
        header(b'{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}') + b"\0" * 8,
        "not a complete",
    ),
    "overlap.safetensors": (
        header(
            b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}'
        )
        + b"\0" * 12,
        "not a complete",
    ),
    "model.ckpt": (pickle.dumps({"state_dict": {}}), "is a pickle, which can run code"),
    "model.pt": (b"PK\x03\x04" + b"\0" * 30, "is a pickle, which can run code"),
    "renamed.safetensors": (pickle.dumps({"state_dict": {}}), "is a pickle, which can run code"),
    "other.safetensors": (
        header(b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}') + b"\0" * 4,
        "has no map that reads text",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_refused(name: str, tmp_path: Path) -> None:
    content, sentence = BAD[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=sentence) as refusal:
        open_checkpoint(tmp_path / name)
    assert str(refusal.value).startswith(f"{tmp_path / name} ")


def test_a_header_length_that_begins_like_a_pickle_is_read(small: Path, tmp_path: Path) -> None:
    """One in 32 safetensors files begins with the byte that a pickle begins with."""
    content = small.read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    padded = next(n for n in range(length, length + 512) if n % 256 == 0x80)
    (tmp_path / "x").write_bytes(
        struct.pack("<Q", padded) + content[8 : 8 + length] + b" " * (padded - length) + content[8 + length :]
    )
    assert (tmp_path / "x").read_bytes()[:1] == b"\x80"
    assert open_file(tmp_path / "x").entries == open_file(small).entries


def test_missing_files_and_folders(tmp_path: Path, picturebook: Path) -> None:
    with pytest.raises(CheckpointError, match="does not exist"):
        open_checkpoint(tmp_path / "missing.safetensors")
    with pytest.raises(CheckpointError, match="holds no .safetensors file"):
        open_checkpoint(tmp_path)
    with pytest.raises(CheckpointError, match="has no model_index.json"):
        open_checkpoint(picturebook, tmp_path)


def test_nan_is_refused_by_name(small: Path, tmp_path: Path) -> None:
    tensors = load_file(small)
    tensors[NAME][3, 3] = float("nan")
    save_file(tensors, tmp_path / "nan.safetensors")
    with pytest.raises(CheckpointError, match=f"{NAME} holds NaN or infinite values"):
        list(open_checkpoint(tmp_path / "nan.safetensors").projections())


def test_targets_are_checked_before_any_work(small: Path, picturebook_folder: Path, tmp_path: Path) -> None:
    def refuse(target: Path, sentence: str, force: bool = False, size: int = 0, folder: bool = False) -> None:
        with pytest.raises(OutputError, match=sentence):
            check_target(target, [small, picturebook_folder], force, size, folder)

    (tmp_path / "old").write_bytes(b"old")
    (tmp_path / "folder").mkdir()
    os.link(small, tmp_path / "link")
    refuse(tmp_path / "no" / "out", "is not a folder; create it first")
    refuse(tmp_path / "old", "already exists; use --force")
    refuse(small, "is an input of this command", force=True)
    refuse(tmp_path / "link", "is an input of this command", force=True)
    refuse(picturebook_folder / "unet" / "diffusion_pytorch_model.safetensors", "is an input", force=True)
    refuse(tmp_path / "folder", "exists and is not a model folder", force=True, folder=True)
    refuse(tmp_path / "folder", "exists and is not a file", force=True)
    refuse(tmp_path / "old", "exists and is not a model folder", force=True, folder=True)
    refuse(tmp_path / "new", "free and the output needs", size=2**62)
    check_target(tmp_path / "old", [small], True, 0)


def test_linked_components_are_copied_and_pickles_are_not(picturebook_folder: Path, tmp_path: Path) -> None:
    """As in a cache of a model hub, where everything is a link."""
    source = tmp_path / "source"
    source.mkdir()
    for part in picturebook_folder.iterdir():
        (source / part.name).symlink_to(part)
    (source / "text.bin").write_bytes(pickle.dumps({}))
    write_checkpoint(open_checkpoint(source), tmp_path / "out", {}, ABOUT, None)
    names = {str(file.relative_to(tmp_path / "out")) for file in (tmp_path / "out").rglob("*") if file.is_file()}
    expected = {str(f.relative_to(picturebook_folder)) for f in picturebook_folder.rglob("*") if f.is_file()}
    assert names == expected


def test_a_folder_is_replaced_whole(picturebook_folder: Path, tmp_path: Path) -> None:
    write_checkpoint(open_checkpoint(picturebook_folder), tmp_path / "out", {}, ABOUT, None)
    stale = tmp_path / "out" / "unet" / "diffusion_pytorch_model.fp16.safetensors"
    stale.touch()
    write_checkpoint(open_checkpoint(picturebook_folder), tmp_path / "out", {}, ABOUT, None)
    assert not stale.exists() and [p.name for p in tmp_path.iterdir()] == ["out"]


def test_overflow_is_seen_beside_a_nan(small: Path, tmp_path: Path) -> None:
    tensors = load_file(small)
    tensors["betas"][:2] = torch.tensor([float("nan"), 1e30])
    save_file(tensors, tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError, match="betas does not fit into float16"):
        write_checkpoint(open_checkpoint(tmp_path / "x.safetensors"), tmp_path / "out", {}, ABOUT, torch.float16)
    assert [path.name for path in tmp_path.iterdir()] == ["x.safetensors"]


def test_float64_is_kept(small: Path, tmp_path: Path) -> None:
    tensors = load_file(small)
    save_file({**tensors, NAME: tensors[NAME].double()}, tmp_path / "x.safetensors")
    model = open_checkpoint(tmp_path / "x.safetensors")
    write_checkpoint(model, tmp_path / "out", {model.places[0].key: tensors[NAME].double() + 1e-12}, ABOUT, None)
    assert torch.equal(load_file(tmp_path / "out")[NAME], tensors[NAME].double() + 1e-12)


def test_a_damaged_record_is_refused(small: Path, tmp_path: Path) -> None:
    save_file(load_file(small), tmp_path / "x.safetensors", {EDITS: '[{"no": "name"}]'})
    with pytest.raises(CheckpointError, match="has a damaged record of its edits") as refusal:
        _ = open_checkpoint(tmp_path / "x.safetensors").edits
    assert str(refusal.value).endswith(
        ": it must be a list of objects with a name); its tensors may be sound, "
        "so take that entry out of a copy's metadata."
    )


RECORD = {"name": "x", "version": "0", "lambdas": [0.1], "encoder": "", "base": ""}


def averaged(path: Path, **more: torch.Tensor) -> Path:
    """A small file with the moving averages of its first two matrices, the second's under another prefix."""
    tensors, twins = small_tensors(vocabulary=64, rows=2), {}
    for matrix, prefix in zip(layouts.SD1.matrices[:2], layouts.EMA_PREFIXES, strict=True):
        twins[prefix + matrix.names[streams.LDM].replace(".", "")] = tensors[ldm(matrix)] + 1
    save_file({**tensors, **twins, **more}, path)
    return path


def test_what_a_model_is(tmp_path: Path) -> None:
    path = averaged(tmp_path / "x.safetensors")
    model, file = open_checkpoint(path), open_file(path)
    assert model.family is layouts.SD1 and (model.width, model.channels, model.is_folder) == (64, 4, False)
    assert model.config is None and model.left_out == () and model.cautions == () and len(model.texts) == 1
    assert [place.matrix for place in model.places] == [*layouts.SD1.matrices, *layouts.SD1.matrices[:2]]
    assert [place.twin for place in model.places] == [False] * 32 + [True] * 2
    stored = load_file(path)
    for twins, count in ((True, 34), (False, 32)):
        found = list(model.projections(twins))
        assert [place.key for place, _ in found] == [(path, place.name) for place in model.places[:count]]
        assert all(torch.equal(tensor, stored[place.name]) for place, tensor in found)
    assert len(list(model.projections())) == 34
    assert not any(place.twin for place in open_checkpoint(path, ema=False).places)
    assert model.text_encoders()[0]["embeddings.token_embedding.weight"].shape == (64, 64)
    assert open_checkpoint(path, needs="nothing").texts == ()
    assert describe(model) == {
        "form": "single file",
        "architecture": layouts.SD1.name,
        "text_width": 64,
        "dtypes": {"F32": len(file.entries) - 1, "I64": 1},
        "parameters": sum(tensor.numel() for tensor in stored.values()),
        "maps": 32,
        "cross_attention_matrices": 32,
        "cross_attention_parameters": 32 * 2 * 64,
        "streams": ["text"],
        "twins": 2,
        "copies": [{"variant": "plain", "form": "whole", "files": [str(path)]}],
        "edits": [],
    }


def test_what_a_folder_is(tmp_path: Path) -> None:
    make_folder(tmp_path / "in")
    model = open_checkpoint(tmp_path / "in", needs="nothing")
    assert model.is_folder and model.config == tmp_path / "in" and len(model.copies) == 2
    assert [place.twin for place in model.places] == [False] * 32 + [True] * 32
    assert [place.matrix for place, _ in model.projections(twins=False)] == list(layouts.SD1.matrices)
    found = describe(model)
    assert (found["form"], found["twins"], found["cross_attention_matrices"]) == ("diffusers folder", 32, 32)
    assert found["dtypes"] == {"F32": 64} and found["parameters"] == 64 * 2 * 8, "each file once"
    pickles = {tmp_path / "in" / "old.ckpt", tmp_path / "in" / "unet" / "diffusion_pytorch_model.bin"}
    for pickle_file in pickles:
        pickle_file.write_bytes(b"\x80\x02}q\x00.")
    model = open_checkpoint(tmp_path / "in", needs="nothing")
    assert set(model.left_out) == pickles
    assert len(model.cautions) == 1 and all(str(path) in model.cautions[0] for path in pickles)


def test_averages_and_shards_of_a_folder(tmp_path: Path) -> None:
    """A shard may hold one matrix, and a folder of its own the moving averages."""
    make_folder(tmp_path / "in")
    unet = tmp_path / "in" / "unet"
    one, two = sorted(unet.glob("*-of-*"))
    tensors = {**load_file(one), **load_file(two)}
    last = layouts.SD1.matrices[-1].names[streams.DIFFUSERS]
    save_file({last: tensors.pop(last) + 1}, two)
    save_file(tensors, one)
    shutil.copytree(unet, tmp_path / "in" / "unet_ema")
    for ema, copies in ((True, 4), (False, 2)):
        model = open_checkpoint(tmp_path / "in", needs="nothing", ema=ema)
        assert len(model.copies) == copies and len(model.places) == 32 * copies
    values = [float(tensor.unique()) for _, tensor in model.projections(twins=False)]
    assert values == [1.0] * 31 + [2.0]


@pytest.mark.parametrize(
    ("shape", "channels"), [((2, 9, 3, 3), 9), ((2, 8, 3, 3), 8), ((2, 4, 3, 3), 4), ((2, 5), 5), ((2,), 4)]
)
@pytest.mark.parametrize("spelling", [streams.LDM, streams.DIFFUSERS])
def test_the_channels_are_those_of_the_first_convolution(
    spelling: int, shape: tuple[int, ...], channels: int, tmp_path: Path
) -> None:
    names = [matrix.names[spelling] for matrix in layouts.SD1.matrices]
    first = "conv_in.weight" if spelling == streams.DIFFUSERS else "input_blocks.0.0.weight"
    tensors = {"a.weight": torch.zeros(1, 7, 1, 1)} | {name: torch.zeros(2, 8) for name in names}
    save_file({**tensors, first: torch.zeros(shape)}, tmp_path / "x.safetensors")
    assert open_checkpoint(tmp_path / "x.safetensors", needs="nothing").channels == channels


def test_where_the_config_is_looked_for(tmp_path: Path) -> None:
    """As given, in the model, beside it, and then with the text encoder, in this order."""
    model = tmp_path / "models" / "x.safetensors"
    texts = tmp_path / "texts" / "encoder"
    given = tmp_path / "given"
    for folder in (model.parent, texts, given):
        folder.mkdir(parents=True)
    averaged(model)
    places = [texts.parent, texts.parent / "config", texts, model.parent / "config"]

    def config(**options: Path) -> Path | None:
        return open_checkpoint(model, text_encoder=(texts,), needs="nothing", **options).config

    assert config() is None
    for place in places:
        place.mkdir(exist_ok=True)
        (place / "model_index.json").write_text("{}")
        assert config() == place
    with pytest.raises(CheckpointError, match="given has no model_index.json; --config takes a diffusers folder"):
        config(config=given)
    (given / "model_index.json").write_text("{}")
    assert config(config=given) == given


def test_copies_that_carry_different_edits_are_named(tmp_path: Path) -> None:
    """Which one counts depends on the tool, so none of them is believed."""
    folder = tmp_path / "in"
    make_folder(folder)
    unet = folder / "unet"
    files = sorted(unet.glob("*.safetensors"))
    for file in files:
        save_file(load_file(file), file, {EDITS: json.dumps([RECORD])})
    assert open_checkpoint(folder, needs="nothing").edits == [RECORD]
    save_file(load_file(files[-1]), files[-1], {EDITS: json.dumps([RECORD, RECORD])})
    with pytest.raises(CheckpointError, match="carry different timecli edits") as refusal:
        _ = open_checkpoint(folder, needs="nothing").edits
    assert str(files[-1]) in str(refusal.value) and str(files[0]) in str(refusal.value)


def test_matrices_that_are_no_floats_are_named(tmp_path: Path) -> None:
    averaged(tmp_path / "x.safetensors")
    tensors = load_file(tmp_path / "x.safetensors")
    save_file({**tensors, NAME: tensors[NAME].to(torch.int8)}, tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError, match=NAME):
        open_checkpoint(tmp_path / "x.safetensors")


def test_position_ids_of_its_own_are_a_caution(tmp_path: Path) -> None:
    name = f"{layouts.SD1.towers[0].prefixes[0]}embeddings.position_ids"
    path = averaged(tmp_path / "x.safetensors", **{name: torch.arange(77)[None].flip(1)})
    (text,) = open_checkpoint(path).texts
    sentence = text.caution()
    assert sentence is not None and sentence.startswith(f"{path}: {name} has 76 in place of 0")


def test_a_delta_is_no_model(tmp_path: Path) -> None:
    save_file({"left": torch.zeros(8, 2), "right": torch.zeros(2, 8)}, tmp_path / "x")
    with pytest.raises(CheckpointError, match="x is a delta, not a model; give the model that it is for"):
        open_checkpoint(tmp_path / "x")
