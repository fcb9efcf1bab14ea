"""fp8: read exactly, edited in float32, written rounded to nearest, converted on request, and never mistaken."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file, save_file

from timecli.editing.delta import load_delta
from timecli.editing.solve import apply
from timecli.files.tensors import convert
from timecli.models import layouts, streams

from .conftest import PICTUREBOOK, ROSES, Run, ldm, small_manifest

E4M3, E5M2 = torch.float8_e4m3fn, torch.float8_e5m2
UNET, TEXT = "model.diffusion_model.", "cond_stage_model."
MATRICES = [ldm(matrix) for matrix in layouts.SD1.matrices]


def quantised(path: Path, target: Path, prefixes: tuple[str, ...], dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """A copy of a single file with the weights below some prefixes in fp8, and picturebook's config beside it."""
    tensors = {
        name: tensor.to(dtype) if name.startswith(prefixes) and tensor.is_floating_point() else tensor
        for name, tensor in load_file(path).items()
    }
    save_file(tensors, target, {"format": "pt"})
    if not (target.parent / "config").exists():
        (target.parent / "config").symlink_to(PICTUREBOOK / "config", target_is_directory=True)
    return tensors


def nearest(exact: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """By looking through all 256 numbers that fp8 has; float64."""
    numbers = torch.arange(256, dtype=torch.uint8).view(dtype).double()
    numbers = numbers[numbers.isfinite()]
    flat = exact.double().flatten()
    return numbers[(flat[:, None] - numbers).abs().argmin(1)].reshape(exact.shape)


@pytest.mark.parametrize("dtype", [E4M3, E5M2], ids=["e4m3", "e5m2"])
@pytest.mark.parametrize("prefixes", [(UNET,), (TEXT,), (UNET, TEXT)], ids=["unet", "text", "both"])
def test_fp8_is_edited_from_its_own_numbers_and_stays_fp8(
    prefixes: tuple[str, ...], dtype: torch.dtype, run: Run, picturebook: Path, tmp_path: Path
) -> None:
    before = quantised(picturebook, tmp_path / "m.safetensors", prefixes, dtype)
    done = run("edit", ROSES, tmp_path / "m.safetensors", "-o", tmp_path / "out", "--delta", tmp_path / "d", "--json")
    assert done.code == 0, done.err
    after, operator = load_file(tmp_path / "out"), load_delta(tmp_path / "d").operator
    assert {n: t.dtype for n, t in after.items()} == {n: t.dtype for n, t in before.items()}
    lost = whole = 0.0
    for name in MATRICES[::7]:
        exact = apply(before[name].float(), operator)
        if UNET in prefixes:
            error = (after[name].double() - exact.double()).abs()
            assert torch.allclose(error, (nearest(exact, dtype) - exact.double()).abs(), atol=1e-9)
    for name in MATRICES:
        exact = apply(before[name].float(), operator).double()
        lost += float((after[name].double() - exact).square().sum())
        whole += float((exact - before[name].double()).square().sum())
    rounding = json.loads(done.out)["rounding"]
    assert rounding == pytest.approx((lost / whole) ** 0.5, rel=1e-4)
    assert ("--dtype" in done.err and "export" in done.err) == (rounding > 0.05) == (UNET in prefixes)
    assert all(
        torch.equal(before[n].view(torch.uint8), after[n].view(torch.uint8))
        for n in before
        if n not in MATRICES and before[n].ndim and before[n].numel()
    )


@pytest.mark.parametrize("name", ["fp16", "bf16", "fp32"])
def test_dtype_converts_every_fp8_tensor_and_keeps_the_edit(
    name: str, run: Run, picturebook: Path, tmp_path: Path
) -> None:
    before = quantised(picturebook, tmp_path / "m.safetensors", (UNET, TEXT), E4M3)
    options = ("-o", tmp_path / "out.safetensors", "--delta", tmp_path / "d", "--dtype", name, "--json")
    done = run("edit", ROSES, tmp_path / "m.safetensors", *options)
    assert done.code == 0 and json.loads(done.out)["rounding"] < 0.05 and done.err == ""
    after, operator = load_file(tmp_path / "out.safetensors"), load_delta(tmp_path / "d").operator
    wanted = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}[name]
    assert {t.dtype for t in after.values() if t.is_floating_point()} == {wanted}
    for key, tensor in before.items():
        if key in MATRICES:
            exact = apply(tensor.float(), operator)
            assert (after[key].float() - exact).norm() / exact.norm() < 5e-3
        elif tensor.is_floating_point():
            assert torch.equal(after[key], tensor.to(wanted)), key
    pipeline = StableDiffusionPipeline.from_single_file(
        str(tmp_path / "out.safetensors"), config=str(PICTUREBOOK / "config"), local_files_only=True,
        safety_checker=None, torch_dtype=torch.float32,
    )  # fmt: skip
    state = pipeline.unet.state_dict()
    for matrix in layouts.SD1.matrices:
        assert torch.equal(state[matrix.names[streams.DIFFUSERS]], after[ldm(matrix)].float())


def test_every_command_reads_fp8(run: Run, picturebook: Path, tmp_path: Path) -> None:
    quantised(picturebook, tmp_path / "m.safetensors", (UNET, TEXT), E4M3)
    model, delta, out = tmp_path / "m.safetensors", tmp_path / "d", tmp_path / "out.safetensors"
    manifest = small_manifest(tmp_path)
    assert run("edit", manifest, model, "-o", out, "--delta", delta).code == 0
    assert run("apply", delta, model, "-o", tmp_path / "again.safetensors").code == 0
    assert (tmp_path / "again.safetensors").read_bytes() == out.read_bytes()
    assert run("plan", manifest, model).code == 0
    assert run("inspect", model).code == 0
    assert run("export", delta, model, "-o", tmp_path / "lora.safetensors").code == 0
    assert run("diff", model, out).code == 0
    drawn = ("--seeds", "1", "--steps", "1")
    assert run("verify", manifest, model, "-o", tmp_path / "one", *drawn).code == 0
    assert run("verify", manifest, model, out, "-o", tmp_path / "two", *drawn).code == 0


@pytest.mark.parametrize("end", ["scale_weight", "weight_scale", "weight_scale_inv"])
@pytest.mark.parametrize("where", MATRICES[3:4])
def test_scaled_fp8_is_refused_by_name_where_it_is_edited(
    end: str, where: str, run: Run, picturebook: Path, tmp_path: Path
) -> None:
    tensors = quantised(picturebook, tmp_path / "m.safetensors", (UNET, TEXT), E4M3)
    scale = where.removesuffix("weight") + end
    save_file({**tensors, scale: torch.tensor(0.5)}, tmp_path / "m.safetensors")
    done = run("edit", ROSES, tmp_path / "m.safetensors", "-o", tmp_path / "out")
    assert done.code == 2 and where in done.err and scale in done.err and not (tmp_path / "out").exists()


FORMS = {
    # how savers of 2025 keep a quantised weight: the parts beside it
    "scaled fp8": {
        "weight": torch.ones(4, 4).to(E4M3), "scale_weight": torch.tensor(0.5), "scale_input": torch.ones(1),
    },
    "fp8 with a note": {
        "weight": torch.ones(4, 4).to(E4M3), "weight_scale": torch.tensor(0.5), "comfy_quant": torch.ones(9).byte(),
    },
    "nvfp4": {
        "weight": torch.ones(4, 2).byte(), "weight_scale": torch.ones(4, 1).to(E4M3),
        "weight_scale_2": torch.tensor(0.5), "input_scale": torch.tensor(0.5), "comfy_quant": torch.ones(9).byte(),
    },
    "int8": {"weight": torch.ones(4, 4).to(torch.int8), "weight_scale": torch.ones(4, 1)},
    "int8 of bitsandbytes": {"weight": torch.ones(4, 4).to(torch.int8), "SCB": torch.ones(4)},
    "nf4 of bitsandbytes": {
        "weight": torch.ones(8, 1).byte(), "weight.absmax": torch.ones(4), "weight.quant_map": torch.ones(16),
        "weight.quant_state.bitsandbytes__nf4": torch.ones(9).byte(),
    },
    "quanto": {"weight._data": torch.ones(4, 4).to(torch.int8), "weight._scale": torch.ones(4, 1)},
    "torchao": {"_weight_qdata": torch.ones(4, 4).to(E4M3), "_weight_scale": torch.ones(4, 1)},
    "hqq": {"W_q": torch.ones(4, 4).byte(), "scale": torch.ones(4), "zero": torch.ones(4)},
    "SDNQ": {"weight:packed": torch.ones(4, 4).byte(), "weight:scale": torch.ones(4)},
    "packed": {"qweight": torch.ones(4, 4).int(), "scales": torch.ones(4), "wscales": torch.ones(4).half()},
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_dtype_leaves_what_belongs_to_a_quantised_weight_as_it_is(
    form: str, run: Run, picturebook: Path, tmp_path: Path
) -> None:
    """Its kernels refuse factors in another dtype; weights of their own, a bias among them, are converted."""
    layer, bystander = "model.diffusion_model.quantised.", "model.diffusion_model.beside."
    quantised_parts = {layer + part: tensor for part, tensor in FORMS[form].items()}
    own = {layer + "bias": torch.ones(4), bystander + "weight": torch.ones(4, 4).to(E4M3)}
    mark = {"scaled_fp8": torch.zeros(2).to(E4M3), "model.diffusion_model.scaled_fp8": torch.zeros(0).to(E4M3)}
    before = {**load_file(picturebook), **quantised_parts, **own, **mark}
    save_file(before, tmp_path / "m.safetensors", {"format": "pt"})
    (tmp_path / "config").symlink_to(PICTUREBOOK / "config", target_is_directory=True)
    for name, dtype in (("fp16", torch.float16), ("bf16", torch.bfloat16)):
        done = run("edit", ROSES, tmp_path / "m.safetensors", "-o", tmp_path / name, "--dtype", name)
        assert done.code == 0, done.err
        after = load_file(tmp_path / name)
        for key in (*quantised_parts, *mark):
            assert after[key].dtype == before[key].dtype, key
            assert torch.equal(after[key].float(), before[key].float()), key
        assert {after[key].dtype for key in (*own, MATRICES[0])} == {dtype}, "the control"


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8], ids=["int8", "uint8"])
def test_integers_are_refused_before_any_work(dtype: torch.dtype, run: Run, picturebook: Path, tmp_path: Path) -> None:
    tensors = load_file(picturebook)
    save_file({**tensors, MATRICES[0]: tensors[MATRICES[0]].to(dtype)}, tmp_path / "m.safetensors")
    averages = {layouts.twins(m)[0]: tensors[ldm(m)].clone() for m in layouts.SD1.matrices}
    twin = layouts.twins(layouts.SD1.matrices[0])[0]
    save_file({**tensors, **averages, twin: averages[twin].to(dtype)}, tmp_path / "ema.safetensors")
    for file, name in (("m.safetensors", MATRICES[0]), ("ema.safetensors", twin)):
        done = run("inspect", tmp_path / file)
        assert done.code == 2 and name in done.err and "use a copy of the model in fp16" in done.err


def test_what_does_not_fit_is_not_cut_off() -> None:
    """torch turns 1000 into 448 or, before 2.13, into NaN, without a word."""
    assert torch.tensor(1000.0).to(E4M3).float() != 1000, "the control"
    assert convert(torch.tensor([447.0]), E4M3, "x").float() == 448
    from timecli.errors import CheckpointError

    for dtype, number in ((E4M3, 1000.0), (E5M2, 1e6)):
        with pytest.raises(CheckpointError, match="x does not fit into float8"):
            convert(torch.tensor([number]), dtype, "x")


def test_nan_in_fp8_is_refused_by_name(run: Run, picturebook: Path, tmp_path: Path) -> None:
    tensors = quantised(picturebook, tmp_path / "m.safetensors", (UNET, TEXT), E4M3)
    damaged = tensors[MATRICES[2]].float()
    damaged[0, 0] = float("nan")
    save_file({**tensors, MATRICES[2]: damaged.to(E4M3)}, tmp_path / "m.safetensors")
    done = run("edit", ROSES, tmp_path / "m.safetensors", "-o", tmp_path / "out")
    assert done.code == 2 and f"{MATRICES[2]} holds NaN" in done.err
