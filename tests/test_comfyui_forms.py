"""The nodes for ComfyUI on a MODEL whose weights are kept in other forms than plain numbers.

As in `test_comfyui.py`, beside a checkout of ComfyUI. With `GGUF_PACK` as the folder of ComfyUI-GGUF, and its package
gguf, GGUF is tried, too.
"""

from __future__ import annotations

import os
from typing import Any

import pytest

from .test_comfyui_model import beside_comfyui

PACK = os.environ.get("GGUF_PACK", "")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    place = tmp_path_factory.mktemp("forms")
    return beside_comfyui("comfyui_forms.py", place, *([PACK] if PACK else []))


def test_what_comfyui_quantises_is_edited_as_it_does_itself(found: dict[str, Any]) -> None:
    """Scaled fp8; and fp8 and nvfp4 in tensors of ComfyUI's own, in versions that have these."""
    assert "scaled_fp8" in found["forms"] and ("nvfp4" in found["forms"] or len(found["forms"]) == 1)
    for form, said in found["forms"].items():
        assert said["rounded"] and said["restored"], f"{form}: to the bit"
        assert said["solved"] < 1e-6, f"{form}: as on the same numbers in float32"
        assert said["moved"] > 1e-3, f"{form}: the control"
        if "nvfp4" in found["forms"]:  # older versions round the weight then, too
            assert said["used"] < 1e-5, f"{form}: where a weight is patched when it is used, nothing is rounded"


def test_a_form_that_cannot_be_patched_is_one_sentence(found: dict[str, Any]) -> None:
    assert len(found["refused"]) == 6
    for form, said in found["refused"].items():
        assert len(said) == 2, f"both nodes refuse {form}"
        for sentence in said:
            assert sentence.startswith("CheckpointError: this MODEL holds txt_in.weight as "), form
            assert (
                sentence.endswith("take the node 'Apply timecli delta' on the conditioning.") and "\n" not in sentence
            )


@pytest.mark.skipif(not PACK, reason="GGUF_PACK names no folder")
def test_gguf_is_edited_by_its_own_pack(found: dict[str, Any]) -> None:
    said = found["gguf"]
    assert said["solved"] < 1e-5 and said["solved while patched"] < 1e-5, "as on the same numbers in float32"
    assert said["picture"] < 1e-3 and said["unplugged"]
    assert said["moved"] > 1e-3, "the control"
