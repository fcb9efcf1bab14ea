"""`diff` finds what differs, and the edit behind it."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from timecli import delta as deltas

from .conftest import PICTUREBOOK, ROSES, Run


def test_equal_models_have_no_difference(run: Run, picturebook: Path) -> None:
    found = json.loads(run("diff", picturebook, picturebook, "--json").out)
    assert found == {"differences": [], "edit": None}


def test_an_edit_is_recovered_from_its_result(run: Run, picturebook_fp32: Path, tmp_path: Path) -> None:
    run("edit", ROSES, picturebook_fp32, "-o", tmp_path / "b", "--delta", tmp_path / "x.delta")
    done = run("diff", picturebook_fp32, tmp_path / "b", "--delta", tmp_path / "again.delta", "--json")
    found = json.loads(done.out)
    assert len(found["differences"]) == 32 and found["edit"]["fits"] and found["edit"]["unexplained"] < 1e-3
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


def test_missing_and_reshaped_tensors_are_named(run: Run, small: Path, tmp_path: Path) -> None:
    tensors = load_file(small)
    del tensors["betas"]
    tensors["v_pred"] = torch.zeros(3)
    save_file(tensors, tmp_path / "other.safetensors")
    found = json.loads(run("diff", small, tmp_path / "other.safetensors", "--json").out)["differences"]
    assert {row["name"]: row["what"] for row in found} == {"betas": "only in the first", "v_pred": "[0] became [3]"}


def test_a_file_and_a_folder_are_not_compared(run: Run, picturebook: Path, picturebook_folder: Path) -> None:
    done = run("diff", picturebook, picturebook_folder)
    assert done.code == 2 and "a file and a folder" in done.err
