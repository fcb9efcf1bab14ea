"""`diff` finds what differs, and the edit behind it."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from timecli.editing import delta as deltas
from timecli.models import layouts, streams

from . import small as small_models
from .conftest import PICTUREBOOK, ROSES, Run, ldm
from .test_families import sdxl

__all__ = ["sdxl"]  # the fixture


def test_equal_models_have_no_difference(run: Run, picturebook: Path) -> None:
    found = json.loads(run("diff", picturebook, picturebook, "--json").out)
    assert found == {"schema_version": 1, "command": "diff", "differences": [], "edit": None}


def test_an_edit_is_recovered_from_its_result(run: Run, picturebook_fp32: Path, tmp_path: Path) -> None:
    run("edit", ROSES, picturebook_fp32, "-o", tmp_path / "b", "--delta", tmp_path / "x.delta")
    done = run("diff", picturebook_fp32, tmp_path / "b", "--delta", tmp_path / "again.delta", "--json")
    found = json.loads(done.out)
    assert len(found["differences"]) == 32 and found["edit"]["fits"] and found["edit"]["unexplained"] < 1e-3
    assert found["edit"]["unexplained"] == float(f"{found['edit']['unexplained']:.6g}"), (
        "the digits that two runs share"
    )
    one, other = (deltas.load_delta(tmp_path / name).operator for name in ("x.delta", "again.delta"))
    d = one.left.double() @ one.right.double()
    assert (other.left.double() @ other.right.double() - d).norm() / d.norm() < 1e-2
    assert run("apply", tmp_path / "again.delta", picturebook_fp32, "-o", tmp_path / "c").code == 0
    b, c = load_file(tmp_path / "b"), load_file(tmp_path / "c")
    assert all((b[name].double() - c[name].double()).norm() <= 1e-4 * b[name].double().norm() for name in b)


def test_a_change_of_another_kind_is_no_edit(run: Run, picturebook: Path, tmp_path: Path) -> None:
    """The paper's projection is the same for all layers; noise is not."""
    torch.manual_seed(0)
    tensors = load_file(picturebook)
    for name in tensors:
        if ".attn2.to_v." in name:
            tensors[name] = tensors[name] + 0.01 * torch.randn(tensors[name].shape).half()
    tensors["model.diffusion_model.out.2.bias"] += 1
    save_file(tensors, tmp_path / "noisy.safetensors")
    (tmp_path / "config").symlink_to(PICTUREBOOK / "config", target_is_directory=True)
    done = run("diff", picturebook, tmp_path / "noisy.safetensors", "--json", "--delta", tmp_path / "x.delta")
    found = json.loads(done.out)
    assert len(found["differences"]) == 17 and found["edit"]["matrices"] == ["v"] and not found["edit"]["fits"]
    assert done.code == 2 and "so there is no delta to write" in done.err and not (tmp_path / "x.delta").exists()


FIRST = "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"


def noisy(path: Path, target: Path, names: list[str]) -> None:
    """A copy with noise in some matrices."""
    random, tensors = torch.Generator().manual_seed(0), load_file(path)
    for name in names:
        tensors[name] = tensors[name] + 0.1 * torch.randn(tensors[name].shape, generator=random)
    save_file(tensors, target, {"format": "pt"})
    if not (target.parent / "config").exists():
        (target.parent / "config").symlink_to(PICTUREBOOK / "config", target_is_directory=True)


@pytest.mark.parametrize("count", [1, 2])
def test_fewer_rows_than_unknowns_explain_anything(
    count: int, run: Run, picturebook_fp32: Path, tmp_path: Path
) -> None:
    """Noise in a matrix of 64 rows: some D of 192 x 192 makes it exactly."""
    names = [FIRST, FIRST.replace("to_k", "to_v")][:count]
    noisy(picturebook_fp32, tmp_path / "m.safetensors", names)
    done = run("diff", picturebook_fp32, tmp_path / "m.safetensors", "--json", "--delta", tmp_path / "d")
    found = json.loads(done.out)["edit"]
    assert found["unexplained"] < 1e-6 and found["rows"] == 64 * count < found["width"] == 192, "the control"
    assert (
        found["fits"] is None
        and done.code == 2
        and "it is not clear whether it is an edit" in done.err
        and not (tmp_path / "d").exists()
    )
    plain = run("diff", picturebook_fp32, tmp_path / "m.safetensors")
    assert plain.code == 0 and "it is not clear whether this is one edit of text space: " in plain.out


def test_noise_in_many_matrices_is_no_edit(run: Run, picturebook_fp32: Path, tmp_path: Path) -> None:
    names = [ldm(m) for m in layouts.SD1.matrices if m.layer in (0, 1)]
    noisy(picturebook_fp32, tmp_path / "m.safetensors", names)
    found = json.loads(run("diff", picturebook_fp32, tmp_path / "m.safetensors", "--json").out)["edit"]
    assert found["rows"] == 256 and found["fits"] is False and found["unexplained"] > 0.3


def test_noise_in_one_matrix_does_not_hide_behind_an_edit_of_all(
    run: Run, picturebook_fp32: Path, tmp_path: Path
) -> None:
    assert run("edit", ROSES, picturebook_fp32, "-o", tmp_path / "b.safetensors").code == 0
    assert json.loads(run("diff", picturebook_fp32, tmp_path / "b.safetensors", "--json").out)["edit"]["fits"], (
        "control"
    )
    tensors = load_file(tmp_path / "b.safetensors")
    random = torch.Generator().manual_seed(0)
    tensors[FIRST] = tensors[FIRST] + 0.0012 * torch.randn(tensors[FIRST].shape, generator=random)
    save_file(tensors, tmp_path / "m.safetensors", {"format": "pt"})
    (tmp_path / "config").symlink_to(PICTUREBOOK / "config", target_is_directory=True)
    found = json.loads(run("diff", picturebook_fp32, tmp_path / "m.safetensors", "--json").out)["edit"]
    assert found["unexplained"] < 0.02, "over all matrices it would pass"
    assert found["fits"] is False and found["worst"]["name"] == FIRST


@pytest.mark.parametrize("options", ["", "--dtype fp16", "values", "one layer"])
def test_real_edits_are_recognised(options: str, run: Run, picturebook_fp32: Path, tmp_path: Path) -> None:
    text = ROSES.read_text()
    solve = {"values": 'matrices = ["v"]', "one layer": "layers = [7]"}.get(options)
    (tmp_path / "m.toml").write_text(text.replace("[solve]", f"[solve]\n{solve}") if solve else text)
    assert not solve or solve in (tmp_path / "m.toml").read_text()
    words = options.split() if options.startswith("--") else []
    assert run("edit", tmp_path / "m.toml", picturebook_fp32, "-o", tmp_path / "b", *words).code == 0
    found = json.loads(run("diff", picturebook_fp32, tmp_path / "b", "--json").out)["edit"]
    assert found["fits"] is True and found["worst"]["unexplained"] < 0.025, found


def test_a_file_with_the_edited_matrices_alone(run: Run, picturebook_fp32: Path, tmp_path: Path) -> None:
    """As TIME's and UCE's scripts may save them: without text encoder, VAE, or the rest of the UNet."""
    assert run("edit", ROSES, picturebook_fp32, "-o", tmp_path / "b", "--delta", tmp_path / "d").code == 0
    edited = load_file(tmp_path / "b")
    save_file({ldm(m): edited[ldm(m)] for m in layouts.SD1.matrices}, tmp_path / "alone.safetensors")
    done = run("diff", picturebook_fp32, tmp_path / "alone.safetensors", "--json", "--delta", tmp_path / "again")
    assert done.code == 0 and json.loads(done.out)["edit"]["fits"], done.err
    one, two = (deltas.load_delta(tmp_path / name) for name in ("d", "again"))
    assert one.origin.encoder == two.origin.encoder
    other = run("diff", tmp_path / "alone.safetensors", picturebook_fp32, "--json")
    assert other.code == 0 and json.loads(other.out)["edit"]["fits"]
    refused = run("diff", tmp_path / "alone.safetensors", picturebook_fp32, "--delta", tmp_path / "no")
    assert refused.code == 2 and "--text-encoder" in refused.err


def test_missing_and_reshaped_tensors_are_named(run: Run, small: Path, tmp_path: Path) -> None:
    tensors = load_file(small)
    del tensors["betas"]
    tensors["v_pred"] = torch.zeros(3)
    save_file(tensors, tmp_path / "other.safetensors")
    found = json.loads(run("diff", small, tmp_path / "other.safetensors", "--json").out)["differences"]
    assert {row["name"]: row["what"] for row in found} == {"betas": "only in the first", "v_pred": "[0] became [3]"}


@pytest.mark.parametrize("form", ["whole", "maps alone", "values alone", "diffusers' names"])
def test_a_file_and_a_folder_are_compared_by_their_maps(
    form: str, run: Run, picturebook_fp32: Path, picturebook_folder: Path, tmp_path: Path
) -> None:
    """As UCE saves edited maps: under diffusers' names, whatever the model was, and perhaps the values alone."""
    text = ROSES.read_text()
    (tmp_path / "m.toml").write_text(
        text.replace("[solve]", '[solve]\nmatrices = ["v"]') if form == "values alone" else text
    )
    done = run("edit", tmp_path / "m.toml", picturebook_fp32, "-o", tmp_path / "b", "--delta", tmp_path / "d")
    assert done.code == 0, done.err
    edited, kinds = load_file(tmp_path / "b"), "v" if form == "values alone" else "kv"
    names = {matrix: ldm(matrix) for matrix in layouts.SD1.matrices if matrix.kind in kinds}
    if form != "maps alone":
        names = {matrix: matrix.names[streams.DIFFUSERS] for matrix in names}
    (tmp_path / "config").symlink_to(PICTUREBOOK / "config", target_is_directory=True)
    save_file({name: edited[ldm(m)] for m, name in names.items()}, tmp_path / "maps.safetensors")
    other = tmp_path / "b" if form == "whole" else tmp_path / "maps.safetensors"
    base = picturebook_fp32 if form == "diffusers' names" else picturebook_folder
    done = run("diff", base, other, "--json", "--delta", tmp_path / "again")
    assert done.code == 0 and "the maps that read text are compared" in done.err, done.err
    found = json.loads(done.out)
    assert len(found["differences"]) == len(names) and found["edit"]["fits"] is True
    one, two = (deltas.load_delta(tmp_path / name).operator for name in ("d", "again"))
    d = one.left.double() @ one.right.double()
    assert (two.left.double() @ two.right.double() - d).norm() < 1e-2 * d.norm()
    if form == "whole":
        assert not json.loads(run("diff", picturebook_folder, picturebook_fp32, "--json").out)["differences"]


def test_maps_of_sdxl_without_its_vector_s_are_compared(run: Run, sdxl: Any, tmp_path: Path) -> None:
    """UCE edits keys and values alone, of SDXL 140 of 141 maps."""
    from .test_families import MANIFEST

    (tmp_path / "m.toml").write_text(MANIFEST)
    assert run("edit", tmp_path / "m.toml", sdxl[1], "-o", tmp_path / "out").code == 0
    unet = load_file(tmp_path / "out" / "unet" / "diffusion_pytorch_model.safetensors")
    save_file(
        {name: one for name, one in unet.items() if ".attn2.to_k." in name or ".attn2.to_v." in name},
        tmp_path / "uce.safetensors",
    )
    done = run("diff", sdxl[1], tmp_path / "uce.safetensors", "--json")
    assert done.code == 0, done.err
    assert len(json.loads(done.out)["differences"]) == 140 and json.loads(done.out)["edit"]["fits"] is True


def test_maps_of_a_transformer_with_their_biases_are_compared(run: Run, tmp_path: Path) -> None:
    """Which no edit of text changes."""
    folder = small_models.saved("z-image", tmp_path / "model")
    state = load_file(folder / "transformer" / "diffusion_pytorch_model.safetensors")
    maps = {name: state[name] for name in ("cap_embedder.1.weight", "cap_embedder.1.bias")}
    save_file(maps, tmp_path / "maps.safetensors")
    done = run("diff", folder, tmp_path / "maps.safetensors", "--json")
    assert done.code == 0 and not json.loads(done.out)["differences"], done.err
    save_file({**maps, "cap_embedder.1.weight": maps["cap_embedder.1.weight"] + 1}, tmp_path / "maps.safetensors")
    done = run("diff", folder, tmp_path / "maps.safetensors", "--json")
    assert len(json.loads(done.out)["differences"]) == 1, "the control"
    save_file({"cap_embedder.1.bias": maps["cap_embedder.1.bias"]}, tmp_path / "maps.safetensors")
    assert run("diff", folder, tmp_path / "maps.safetensors").code == 2, "no map at all"


def test_something_else_is_no_file_of_maps(run: Run, picturebook_folder: Path, tmp_path: Path) -> None:
    save_file({"lora_unet_x.lora_up.weight": torch.zeros(2, 2)}, tmp_path / "x.safetensors")
    done = run("diff", picturebook_folder, tmp_path / "x.safetensors")
    assert done.code == 2 and "is a LoRA" in done.err


@pytest.mark.parametrize(
    ("dtype", "lam", "verdict"),
    [
        (torch.bfloat16, 1000, True),
        (torch.float8_e4m3fn, 10, True),
        (torch.float8_e4m3fn, 10000, None),
        (torch.float16, 10, True),
    ],
)
def test_rounding_is_not_taken_for_another_change(
    dtype: torch.dtype, lam: int, verdict: bool | None, run: Run, picturebook: Path, tmp_path: Path
) -> None:
    """Rounding to bf16 and fp8 is 3 % and more of such edits; noise of the same size is still seen."""
    names = {ldm(matrix) for matrix in layouts.SD1.matrices}
    tensors = {name: t.to(dtype) if name in names else t for name, t in load_file(picturebook).items()}
    (tmp_path / "config").symlink_to(PICTUREBOOK / "config", target_is_directory=True)
    save_file(tensors, tmp_path / "a.safetensors", {"format": "pt"})
    (tmp_path / "m.toml").write_text(ROSES.read_text().replace("lambda = 10", f"lambda = {lam}"))
    assert run("edit", tmp_path / "m.toml", tmp_path / "a.safetensors", "-o", tmp_path / "b.safetensors").code == 0
    found = json.loads(run("diff", tmp_path / "a.safetensors", tmp_path / "b.safetensors", "--json").out)["edit"]
    assert found["fits"] is verdict and (found["doubt"] is None) == (verdict is not None), found
    if verdict is None:
        assert "rounding to their dtype is" in found["doubt"]
    edited, random = load_file(tmp_path / "b.safetensors"), torch.Generator().manual_seed(0)
    for name in names:
        change = edited[name].float() - tensors[name].float()
        noise = torch.randn(change.shape, generator=random) * change.square().mean().sqrt()
        edited[name] = (edited[name].float() + 2 * noise).to(dtype)
    save_file(edited, tmp_path / "b.safetensors", {"format": "pt"})
    found = json.loads(run("diff", tmp_path / "a.safetensors", tmp_path / "b.safetensors", "--json").out)["edit"]
    assert found["fits"] is False, "the control"


def test_a_model_in_another_dtype_is_not_called_edited(run: Run, picturebook_fp32: Path, tmp_path: Path) -> None:
    random, tensors = torch.Generator().manual_seed(0), load_file(picturebook_fp32)
    for matrix in layouts.SD1.matrices:  # picturebook came in fp16; these have digits to lose
        tensors[ldm(matrix)] *= 1 + 1e-3 * torch.rand(tensors[ldm(matrix)].shape, generator=random)
    save_file(tensors, tmp_path / "a.safetensors", {"format": "pt"})
    save_file(
        {name: t.half() if t.is_floating_point() else t for name, t in tensors.items()}, tmp_path / "b.safetensors"
    )
    found = json.loads(run("diff", tmp_path / "a.safetensors", tmp_path / "b.safetensors", "--json").out)["edit"]
    assert found["fits"] is None and "rounding to their dtype is" in found["doubt"]


@pytest.mark.skipif(not hasattr(torch, "float4_e2m1fn_x2"), reason="torch has numbers of four bits from 2.8 on")
def test_packed_numbers_are_compared_as_bytes(run: Run, small: Path, tmp_path: Path) -> None:
    """Numbers of four bits, two in a byte, as quantisers for recent GPUs keep them."""
    for name, value in (("a", 1), ("b", 1), ("c", 2)):
        packed = torch.full((4, 4), value, dtype=torch.uint8).view(torch.float4_e2m1fn_x2)
        save_file({**load_file(small), "x.weight": packed}, tmp_path / name)
    done = run("diff", tmp_path / "a", tmp_path / "b")
    assert done.code == 0 and "0 tensors differ" in done.out, done.err
    done = run("diff", tmp_path / "a", tmp_path / "c")
    assert "x.weight" in done.out and "values" in done.out, done.err
