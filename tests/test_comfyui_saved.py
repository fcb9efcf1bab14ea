"""The nodes for ComfyUI that save an edit and apply a file, and what stands beside the edited MODEL.

As in `test_comfyui.py`, beside a checkout of ComfyUI.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from .conftest import Run
from .test_comfyui_model import beside_comfyui


@pytest.mark.parametrize("family", ["SD 1", "FLUX.1", "Qwen-Image", "FLUX.2 dev", "Z-Image"])
def test_what_is_saved_draws_what_the_node_draws(family: str, run: Run, tmp_path: Path) -> None:
    """By ComfyUI's own loader of LoRAs, and by the node that applies a delta."""
    found = beside_comfyui("comfyui_saved.py", family, tmp_path)
    assert found["files"] == ["blue.delta", "blue.safetensors"] and len(found["written"]) == 2
    assert found["delta"] < 1e-5 and found["same"]
    assert found["lora"] < 0.05, "a LoRA is cut off at a hundredth of the edit, and is 1 where it does nothing"
    assert found["maps"][0] == found["maps"][1] > 0, "every map finds its part of the LoRA"
    assert not found["twice"], "the same bytes are written already"
    assert "blue.delta is there already, with something else in it" in found["replaced"]
    assert found["no model"].startswith("ValueError: a LoRA is for one model")
    assert all("is no name of a file" in said for said in found["odd names"])
    done = run("inspect", tmp_path / "timecli" / "blue.delta", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["states_of"] == "ComfyUI"
    for what, sentence in found["foreign"].items():
        assert what == "the control" or sentence.startswith("DeltaError: the delta 'roses' was made for "), what
        assert "\n" not in sentence and sentence.endswith("compile the edit for this model.") != (what == "the control")
    if family == "SD 1":
        assert "text of width 24, and this MODEL, Stable Diffusion XL, reads 48" in found["foreign"]["another width"]
        assert "a pooled vector of width 24, and this MODEL, Chroma, reads no" in found["foreign"]["no vector"]
        assert "text that no norm of the network has changed" in found["foreign"]["before a norm"]
        assert "text behind a norm of the network" in found["foreign"]["behind a norm"]
        assert found["foreign"]["the control"] == ""


def test_a_refiner_and_control_nets_are_not_edited() -> None:
    found = beside_comfyui("comfyui_beside.py")
    assert found["refiner"]["same"], "to the bit"
    assert len(found["refiner"]["refused"]) == 2
    assert all("this MODEL is an SDXL refiner" in said for said in found["refiner"]["refused"])
    control = found["control"]
    assert control["same"], "to the bit"
    assert control["picture"] < 2e-4, "the control net reads the text as it is"
    assert control["both edited"] > 2e-3 and control["heard"] > 0.1, "the control: it reads text, and is heard"
