"""What the nodes for ComfyUI say of what does not fit, and that they leave nothing half written.

As in `test_comfyui.py`, beside a checkout of ComfyUI.
"""

from __future__ import annotations

from typing import Any

import pytest

from .test_comfyui_model import beside_comfyui


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return beside_comfyui("comfyui_refused.py", tmp_path_factory.mktemp("refused"))


def test_a_clip_that_does_not_fit_is_one_sentence(found: dict[str, Any]) -> None:
    said = found["clips"]
    for name in ("none", "norm", "longer", "behind the last", "skipped"):
        assert said[name].startswith("CheckpointError: ") and "\n" not in said[name], name
    assert "the CLIP is empty, as of a checkpoint without text encoders; connect" in said["none"]
    assert "the CLIP gives text of width 24, and this MODEL, Qwen-Image, reads 32; connect the CLIP" in said["norm"]
    assert "the CLIP gives 256 states for the 77 tokens that this MODEL reads; connect the CLIP" in said["longer"]
    assert "'CLIP Set Last Layer' to -2, or take it out" in said["behind the last"]
    assert "'CLIP Set Last Layer' to -1, or write clip_skip = 2" in said["skipped"]
    assert said["as skipped"].startswith("a rose goes 100%")
    assert said["length"].endswith("the edit is for ComfyUI's 77 positions, not the 100 of solve.length.")


def test_the_line_below_the_node_has_what_plan_warns_of(found: dict[str, Any]) -> None:
    assert "'(wet:1.3)' (A1111, Forge and ComfyUI); here it is encoded letter by letter" in found["brackets"]
    assert found["lines"][8] == "and 1 more" and found["lines"][9].startswith("of what nobody named"), (
        "no page of lines"
    )
    assert len(found["embedding"].splitlines()) == 2 and " rose goes 100% of its way" in found["embedding"]


def test_what_changes_is_read_anew_and_a_linked_text_stays(found: dict[str, Any]) -> None:
    first, other = found["lists"]
    assert first != other and "a boat moves most" in other, "another list of everyday prompts"
    assert found["linked"] == ["[]", 0.0], "no error, after which ComfyUI runs a node at every turn"
    assert found["hooked"], "a weight is read as it was loaded"


def test_a_text_encoder_is_told_by_its_states_where_its_weights_do_not_tell(found: dict[str, Any]) -> None:
    """Else everyday prompts in the cache would be those of another."""
    plain, hooked, again, packed = found["fingerprints"]
    assert plain == again and len({plain, hooked, packed}) == 3


def test_nothing_is_half_saved(found: dict[str, Any]) -> None:
    saved = found["saved"]
    for name in ("there", "pipe", "folder", "link"):
        assert saved[name].startswith("OutputError: ") and "is there already, with something else in it" in saved[name]
    assert "was made for text of width 24, and this MODEL, Stable Diffusion XL, reads 48" in saved["other model"]
    assert saved["left"] == []
    assert saved["no folder"].startswith("OutputError: ") and "few.txt cannot be written: " in saved["no folder"]
