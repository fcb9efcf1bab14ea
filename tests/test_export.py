"""An exported adapter is the edit, in files that others load."""

import hashlib
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from timecli.editing import compiling
from timecli.editing import delta as deltas
from timecli.editing.delta import Delta, Origin
from timecli.editing.solve import Operator, apply
from timecli.errors import CheckpointError, DeltaError
from timecli.files.rewriting import write_tensors
from timecli.files.safefile import open_file
from timecli.models import layouts, streams
from timecli.models.checkpoint import Checkpoint, open_checkpoint
from timecli.shipping import export
from timecli.text import encoding

from .conftest import EXACT, PICTUREBOOK, ROSES, Run, ldm
from .test_families import sdxl

__all__ = ["sdxl"]  # the fixture

PROMPT = "A vase of roses"


@pytest.fixture(scope="module")
def edited(picturebook_fp32: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the edited fp32 model, its delta, and the adapter in every form."""
    from timecli.cli import main

    folder = tmp_path_factory.mktemp("export")
    commands = [["edit", ROSES, picturebook_fp32, "-o", folder / "model.safetensors", "--delta", folder / "delta"]]
    commands += [
        ["export", folder / "delta", picturebook_fp32, "--format", form, *EXACT, "-o", folder / f"{form}.safetensors"]
        for form in ("lora", "peft", "diff")
    ]
    for command in commands:
        with pytest.raises(SystemExit) as stop:
            main([str(word) for word in command])
        assert not stop.value.code
    return folder


def load(path: Path) -> StableDiffusionPipeline:
    pipeline = StableDiffusionPipeline.from_single_file(
        str(path), config=str(PICTUREBOOK / "config"), local_files_only=True, safety_checker=None
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(torch.float32)


def draw(pipeline: StableDiffusionPipeline) -> np.ndarray:
    noise = torch.randn((1, 4, 8, 8), generator=torch.Generator().manual_seed(0))
    image = pipeline(PROMPT, latents=noise, num_inference_steps=4, guidance_scale=3.0, output_type="np").images[0]
    return np.asarray(image)


@pytest.mark.parametrize("form", ["lora", "peft"])
@pytest.mark.parametrize("base", ["file", "folder"])
def test_diffusers_loads_it_and_draws_the_edited_models_picture(
    form: str, base: str, edited: Path, picturebook_fp32: Path, picturebook_folder: Path
) -> None:
    plain = load(picturebook_fp32)
    if base == "folder":
        plain = StableDiffusionPipeline.from_pretrained(
            picturebook_folder, local_files_only=True, safety_checker=None, torch_dtype=torch.float32
        )
        plain.set_progress_bar_config(disable=True)
    before = draw(plain)
    plain.load_lora_weights(str(edited), weight_name=f"{form}.safetensors")
    with_lora, expected = draw(plain), draw(load(edited / "model.safetensors"))
    assert np.abs(with_lora - expected).max() <= 1 / 255
    assert np.abs(before - expected).max() > 10 / 255, "the control"


def test_fused_it_is_the_edited_model(edited: Path, picturebook_fp32: Path) -> None:
    pipeline, wanted = load(picturebook_fp32), load_file(edited / "model.safetensors")
    pipeline.load_lora_weights(str(edited), weight_name="lora.safetensors")
    pipeline.fuse_lora()
    pipeline.unload_lora_weights()
    for matrix in layouts.SD1.matrices:
        found, expected = pipeline.unet.get_parameter(matrix.names[streams.DIFFUSERS]), wanted[ldm(matrix)]
        assert (found - expected).norm() / expected.norm() < 1e-5, matrix


def test_every_form_is_the_same_difference(edited: Path, picturebook_fp32: Path) -> None:
    lora, peft, diff = (load_file(edited / f"{form}.safetensors") for form in ("lora", "peft", "diff"))
    before, after = load_file(picturebook_fp32), load_file(edited / "model.safetensors")
    for matrix in layouts.SD1.matrices:
        module = matrix.names[streams.DIFFUSERS].removesuffix(".weight")
        kohya = f"lora_unet_{module.replace('.', '_')}"
        wanted = after[ldm(matrix)].double() - before[ldm(matrix)].double()
        up, down = lora[f"{kohya}.lora_up.weight"].double(), lora[f"{kohya}.lora_down.weight"].double()
        assert lora[f"{kohya}.alpha"] == len(down), "every loader scales by alpha / rank"
        other = peft[f"unet.{module}.lora_B.weight"].double() @ peft[f"unet.{module}.lora_A.weight"].double()
        for found in (up @ down, other, diff[f"{kohya}.diff"].double()):
            assert (found - wanted).norm() / wanted.norm() < 1e-5


def test_names_and_header_follow_the_loaders_rules(edited: Path) -> None:
    """Only `lora_unet_` keys, one dialect, `{"` first, and the base model named for A1111 and Forge."""
    path = edited / "lora.safetensors"
    names = list(load_file(path))
    assert len(names) == 3 * 32 and all(name.startswith("lora_unet_") for name in names)
    assert path.read_bytes()[8:10] == b'{"'
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    assert metadata["modelspec.architecture"] == "stable-diffusion-v1/lora"
    assert metadata["ss_base_model_version"] == "sd_v1" and metadata["ss_network_module"] == "networks.lora"
    assert json.loads(metadata["timecli.edits"])[0]["manifest"] == ROSES.read_text()


def test_truncation_says_what_it_loses(edited: Path, run: Run, picturebook_fp32: Path, tmp_path: Path) -> None:
    full = deltas.load_delta(edited / "delta").operator
    d = full.left.double() @ full.right.double()
    losses = []
    for rank in (1, 5, 20):
        cut, lost = export.truncated(full, rank, None)
        assert cut.rank == rank
        error = (d - cut.left.double() @ cut.right.double()).norm() / d.norm()
        best = torch.linalg.svdvals(d)[rank:].norm() / d.norm()
        assert abs(lost - error) < 1e-5 and abs(error - best) < 1e-5, "no other matrix of this rank is closer"
        losses.append(lost)
    assert losses == sorted(losses, reverse=True)
    cut, lost = export.truncated(full, None, losses[1])
    assert cut.rank <= 5 and lost <= losses[1]
    done = run("export", edited / "delta", picturebook_fp32, "-o", tmp_path / "x", "--tolerance", "0.05", "--json")
    assert done.code == 0 and 0 < json.loads(done.out)["lost"] <= 0.05


def test_an_adapter_for_another_model_is_refused(edited: Path, run: Run, small: Path, tmp_path: Path) -> None:
    done = run("export", edited / "delta", small, "-o", tmp_path / "x")
    assert done.code == 2 and "compile the manifest for this model" in done.err and not (tmp_path / "x").exists()
    done = run("export", edited / "delta", small, "-o", tmp_path / "x", "--format", "gguf")
    assert done.code == 2 and "--format gguf is not known; use lora, peft, diff." in done.err


def test_identical_rows_and_unchanged_ones_cost_no_rank(picturebook: Path) -> None:
    from timecli.manifests.manifest import parse

    checkpoint, cpu = open_checkpoint(picturebook), torch.device("cpu")
    encoder = encoding.read_text_encoder(checkpoint, None, cpu)
    pair = '[[edit]]\nsource = "A rose"\ndestination = "A blue rose"\n'
    head = 'name = "x"\n[solve]\naugment = false\ntokens = "prompt"\n'
    delta = compiling.compile_edit(parse(head + pair), checkpoint, encoder, cpu)
    assert delta.operator.rank == 2, "of start, a, rose, end only the last two change"


@pytest.mark.parametrize("form", ("lora", "peft", "diff"))
def test_an_adapter_or_a_delta_is_no_model(form: str, edited: Path, run: Run, tmp_path: Path) -> None:
    done = run("edit", ROSES, edited / f"{form}.safetensors", "-o", tmp_path / "x")
    assert done.code == 2 and "is a LoRA, not a model" in done.err
    done = run("edit", ROSES, edited / "delta", "-o", tmp_path / "x")
    assert done.code == 2 and "is a delta, not a model" in done.err


def test_a_pickles_name_is_refused(edited: Path, run: Run, picturebook_fp32: Path, tmp_path: Path) -> None:
    done = run("export", edited / "delta", picturebook_fp32, "-o", tmp_path / "x.pt")
    assert done.code == 2 and "under the name of a pickle" in done.err and not (tmp_path / "x.pt").exists()


def test_rounding_counts_as_an_error_too(edited: Path, run: Run, picturebook_fp32: Path, tmp_path: Path) -> None:
    errors = {}
    for dtype in ("fp32", "fp16"):
        command = ["export", edited / "delta", picturebook_fp32, "-o", tmp_path / dtype, "--dtype", dtype, "--json"]
        command += ["--tolerance", 0]
        found = json.loads(run(*command).out)
        errors[dtype] = found["error"]
        assert found["lost"] == 0
    assert errors["fp32"] < 1e-6 < 1e-4 < errors["fp16"] < 1e-2
    cut = json.loads(run(*command[:-2], "--rank", "2", "--force").out)
    assert cut["error"] > errors["fp16"] and cut["lost"] > 0


def test_two_limits_of_the_rank_are_one_too_many(
    edited: Path, run: Run, picturebook_fp32: Path, tmp_path: Path
) -> None:
    limits = ["--rank", "3", "--tolerance", "0.1"]
    done = run("export", edited / "delta", picturebook_fp32, "-o", tmp_path / "x", *limits)
    assert done.code == 2 and "choose one" in done.err and not (tmp_path / "x").exists()


def test_inspect_knows_an_adapter(edited: Path, run: Run) -> None:
    done = run("inspect", edited / "lora.safetensors")
    assert done.code == 0 and "stable-diffusion-v1/lora" in done.out and "A pack of blue roses" in done.out
    assert run("inspect", edited / "lora.safetensors", "--textconv").out.strip() == ROSES.read_text().strip()
    assert run("inspect", edited / "lora.safetensors", "--textconv", "--json").code == 2


@pytest.mark.parametrize("form", ("lora", "peft", "diff"))
def test_the_record_of_an_adapter_is_not_true_of_a_merge(form: str, edited: Path, run: Run, tmp_path: Path) -> None:
    path = edited / f"{form}.safetensors"
    assert json.loads(run("inspect", path, "--json").out)["record"] == "true of the tensors", "the control"
    with safe_open(path, "pt") as file:
        about = file.metadata()
    tensors, copy = load_file(path), tmp_path / "x.safetensors"
    save_file({name: tensor.clone() for name, tensor in sorted(tensors.items(), reverse=True)}, copy, about)
    assert json.loads(run("inspect", copy, "--json").out)["record"] == "true of the tensors", "saved again"
    save_file({name: tensor * 0.5 for name, tensor in tensors.items()}, copy, about)
    done = run("inspect", copy, "--json")
    assert json.loads(done.out)["record"] == "not true of the tensors"
    assert f"{copy} says that it was edited with 'blue-roses-plain', and its tensors are not those" in done.err
    (entry,) = json.loads(about["timecli.edits"])
    del entry["made"]
    save_file(tensors, copy, {**about, "timecli.edits": json.dumps([entry])})
    assert json.loads(run("inspect", copy, "--json").out)["record"] == "says nothing of the tensors"


@pytest.fixture
def tiny(tmp_path: Path) -> Checkpoint:
    """The matrices of SD 1 with few rows and few columns."""
    random = torch.Generator().manual_seed(0)
    tensors = {ldm(matrix): torch.randn(3, 768, generator=random) for matrix in layouts.SD1.matrices}
    save_file(tensors, tmp_path / "tiny.safetensors")
    return open_checkpoint(tmp_path / "tiny.safetensors", needs="nothing")


def random_delta(matrices: tuple[str, ...] = ("k", "v"), layers: tuple[int, ...] | None = None) -> Delta:
    """Four columns that stand at right angles, so that the singular values are 8, 4, 2 and 1."""
    random = torch.Generator().manual_seed(1)
    left, right = (torch.linalg.qr(torch.randn(768, 4, generator=random)).Q for _ in range(2))
    sizes = torch.tensor([8.0, 4.0, 2.0, 1.0]).sqrt()
    return Delta(
        {"text": Operator(left * sizes, (right * sizes).T.contiguous(), 1.0)},
        Origin("x", "", "0", "", (0.1,), matrices, layers, ()),
    )


def test_the_ranks_that_are_kept_and_what_they_lose() -> None:
    whole, root = random_delta().operator, 85**0.5  # 85 = 64 + 16 + 4 + 1
    lost = {1: 21**0.5 / root, 2: 5**0.5 / root, 3: 1 / root, 4: 0.0}
    for rank, loss in lost.items():
        cut, found = export.truncated(whole, rank, None)
        assert torch.equal(cut.left, whole.left[:, :rank]) and torch.equal(cut.right, whole.right[:rank])
        assert found == pytest.approx(loss, abs=1e-6)
    assert [export.truncated(whole, rank, None)[0].rank for rank in (None, 9, 0)] == [4, 4, 1]
    kept = {tolerance: export.truncated(whole, None, tolerance)[0].rank for tolerance in (0.0, 0.2, 0.3, 0.6, 1.0)}
    assert kept == {0.0: 4, 0.2: 3, 0.3: 2, 0.6: 1, 1.0: 1}
    assert export.truncated(whole, None, export.truncated(whole, 2, None)[1])[0].rank == 2, "as much as may be lost"
    assert export.truncated(whole, 1, 0.2)[0].rank == 1 and export.truncated(whole, 3, 0.6)[0].rank == 1


@pytest.mark.parametrize("form", ("lora", "peft", "diff"))
def test_only_what_the_edit_covers_is_in_the_file(form: str, tiny: Checkpoint) -> None:
    delta = random_delta(("v",), (0, 3))
    made = export.adapter(tiny, delta, form, torch.float16, delta)
    per_matrix = {"lora": 3, "peft": 2, "diff": 1}[form]
    assert len(made.tensors) == 2 * per_matrix and all(
        tensor.dtype == (torch.float32 if name.endswith(".alpha") else torch.float16)
        for name, tensor in made.tensors.items()
    )
    assert all("to_v" in name for name in made.tensors)
    other = random_delta(layers=(99,))
    with pytest.raises(DeltaError, match=r"the delta 'x' covers no matrix of .*tiny\.safetensors"):
        export.adapter(tiny, other, form, torch.float32, other)


def test_moving_averages_are_not_in_the_file(tiny: Checkpoint, tmp_path: Path) -> None:
    """Loaders know one UNet; the base is that of its matrices."""
    delta, stored = random_delta(), load_file(tiny.path)
    twins = {
        layouts.EMA_PREFIXES[0] + m.names[streams.LDM].replace(".", ""): stored[ldm(m)] + 1
        for m in layouts.SD1.matrices
    }
    save_file({**stored, **twins}, tmp_path / "x.safetensors")
    model = open_checkpoint(tmp_path / "x.safetensors", needs="nothing")
    assert len(model.places) == 64, "the control"
    found, alone = (export.adapter(one, delta, "lora", torch.float32, delta) for one in (model, tiny))
    assert found.base == alone.base and found.error == alone.error
    digest = hashlib.sha256(b"".join(stored[ldm(m)].numpy().tobytes() for m in layouts.SD1.matrices))
    assert found.base == digest.hexdigest()
    assert all(torch.equal(found.tensors[name], tensor) for name, tensor in alone.tensors.items())


@pytest.mark.parametrize("form", ["lora", "diff"])
def test_what_does_not_fit_is_named(form: str, tiny: Checkpoint) -> None:
    delta = random_delta()
    large = Delta({"text": Operator(delta.operator.left * 1e6, delta.operator.right, 1.0)}, delta.origin)
    name = ldm(layouts.SD1.matrices[0])
    with pytest.raises(CheckpointError, match=f"{name} does not fit into float16"):
        export.adapter(tiny, large, form, torch.float16, large)


@pytest.mark.parametrize("rank", [2, 4])
@pytest.mark.parametrize("form", ("lora", "peft", "diff"))
def test_the_error_is_that_of_all_matrices_together(form: str, rank: int, tiny: Checkpoint) -> None:
    delta = random_delta()
    cut, _ = export.smaller(delta, rank, None)
    made = export.adapter(tiny, delta, form, torch.bfloat16, cut)
    rest = whole = 0.0
    for place, weight in tiny.projections():
        wanted = apply(weight.double(), delta.operator) - weight.double()
        module = place.matrix.names[streams.DIFFUSERS].removesuffix(".weight")
        names = {
            "lora": (f"lora_unet_{module.replace('.', '_')}.lora_up.weight",) * 2,
            "peft": (f"unet.{module}.lora_B.weight", f"unet.{module}.lora_A.weight"),
            "diff": (f"lora_unet_{module.replace('.', '_')}.diff",),
        }[form]
        first = made.tensors[names[0]].double()
        if form != "diff":
            first = first @ made.tensors[names[1].replace("lora_up", "lora_down")].double()
        rest, whole = rest + float((first - wanted).square().sum()), whole + float(wanted.square().sum())
    assert made.error == pytest.approx((rest / whole) ** 0.5, rel=1e-6) and made.error > 1e-4


@pytest.mark.parametrize("form", ("lora", "peft", "diff"))
def test_the_header_and_what_inspect_says(form: str, tiny: Checkpoint, tmp_path: Path) -> None:
    delta, path = random_delta(), tmp_path / "x.safetensors"
    made = export.adapter(tiny, delta, form, torch.float16, delta)
    write_tensors(path, made.tensors, export.about(tiny, delta, form, []))
    file = open_file(path)
    assert file.metadata == {
        "format": "pt",
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.architecture": "stable-diffusion-v1/lora",
        "modelspec.implementation": "diffusers",
        "modelspec.title": "x",
        "ss_output_name": "x",
        "ss_base_model_version": "sd_v1",
        "ss_v2": "False",
        "timecli.edits": "[]",
        **({"ss_network_module": "networks.lora"} if form == "lora" else {}),
        **({"ss_network_dim": "4", "ss_network_alpha": "4"} if form == "lora" else {}),
    }
    records = [{"name": "x", "base": "0", "a": 1}]
    assert export.about(tiny, delta, form, records)["timecli.edits"] == json.dumps(records, sort_keys=True)
    assert export.is_adapter(file) and not export.is_adapter(tiny.places[0].file)
    assert export.describe(file) == {
        "form": "adapter",
        "architecture": "stable-diffusion-v1/lora",
        "dtypes": {"F16": 64, "F32": 32} if form == "lora" else {"F16": len(made.tensors)},
        "tensors": len(made.tensors),
        "edits": [],
    }
    for about in ({"timecli.edits": "[]"}, {"modelspec.architecture": "stable-diffusion-v1/lora"}):
        save_file(made.tensors, path, about)
        assert not export.is_adapter(open_file(path)), "an edited model, or a LoRA of somebody else's"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("rank", [765, 2049])
def test_alpha_is_the_rank_in_every_dtype(dtype: torch.dtype, rank: int, tmp_path: Path) -> None:
    """bf16 has no 765 and fp16 no 2049: the whole edit would be weaker."""
    family, random = layouts.FLUX1, torch.Generator().manual_seed(0)
    place = layouts.FLUX1.matrices[0]
    state = {f"{place.names[streams.LDM]}": torch.randn(3, 2100, generator=random)}
    state |= {"vector_in.in_layer.weight": torch.ones(3, 8), family.marks[0]: torch.zeros(1)}
    save_file(state, tmp_path / "x.safetensors")
    model = open_checkpoint(tmp_path / "x.safetensors", needs="nothing")
    left, right = torch.randn(2100, rank, generator=random) / 1e3, torch.randn(rank, 2100, generator=random)
    delta = Delta({"text": Operator(left, right, 1.0)}, Origin("x", "", "0", "", (0.1,), ("k", "v"), None, ()))
    made = export.adapter(model, delta, "lora", dtype, delta)
    alpha = made.tensors["lora_unet_txt_in.alpha"]
    assert alpha.item() == rank == len(made.tensors["lora_unet_txt_in.lora_down.weight"])


def test_a_lora_of_sdxl_has_a_size_that_people_share(sdxl: Any, run: Run, tmp_path: Path) -> None:
    """Of the real shapes no more columns fit than 100 MB hold; what is cut is said, and less is cut on demand."""
    rows = {640: 48, 1280: 92}  # of SDXL's 140 keys and values
    shapes = [(size, 2048) for size, count in rows.items() for _ in range(count)] + [(1280, 2816)]
    sizes = dict(zip(layouts.SDXL.matrices, shapes, strict=True))
    held = SimpleNamespace(family=layouts.SDXL, shape=sizes.__getitem__)
    whole = random_delta()
    both = Delta({"text": whole.operator, "pooled": whole.operator}, whole.origin)
    for dtype, size in ((torch.float16, 2), (torch.float32, 4)):
        columns = export.fitting(held, both, dtype)  # type: ignore[arg-type]
        per_column = size * sum(map(sum, shapes))
        assert columns * per_column < 99e6 < (columns + 1) * per_column


def test_the_default_says_what_it_loses(sdxl: Any, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "m.toml").write_text(
        'name = "two"\n[[edit]]\nsource = "A pack of roses"\ndestination = "A pack of blue roses"\n'
        '[[edit]]\nsource = "A dog"\ndestination = "A green dog"\n[preserve]\neveryday = false\n'
    )
    assert run("edit", tmp_path / "m.toml", sdxl[1], "--delta", tmp_path / "d").code == 0
    command = ("export", tmp_path / "d", sdxl[1], "-o", tmp_path / "lora", "--force", "--json")
    done = run(*command)
    plain = json.loads(done.out)
    assert done.code == 0 and plain["lost"] <= export.TOLERANCE and "is lost" not in done.err, "the control"
    assert plain["error"] < 1.1 * export.TOLERANCE and plain["bytes"] == (tmp_path / "lora").stat().st_size
    monkeypatch.setattr(export, "LARGEST", plain["bytes"] // 8)
    done = run(*command)
    found = json.loads(done.out)
    assert found["bytes"] < plain["bytes"] / 4 and found["lost"] > export.LOST, found
    assert f"{found['lost']:.0%} of the edit is lost" in done.err and "--tolerance 0.01" in done.err
    assert found["lost"] * 0.5 < found["error"] < found["lost"] * 2
    done = run(*command, "--tolerance", "0.01")
    assert json.loads(done.out)["bytes"] == plain["bytes"], "a larger one on demand"
