"""The node for ComfyUI: an edit of the conditioning is the edit of the weights.

ComfyUI is no package: beside a checkout, with its requirements installed, run
`PYTHONPATH=ComfyUI pytest tests/test_comfyui.py`.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from timecli.editing.delta import Delta, Origin, load_delta, save_delta
from timecli.editing.solve import Operator, apply
from timecli.models.streams import POOLED, TEXT

from . import small
from .conftest import ROOT, Run

NODE = ROOT / "integrations" / "comfyui"
PAIR = '[[edit]]\nsource = "A pack of roses"\ndestination = "A pack of blue roses"\n'
MANIFEST = f'name = "blue"\n[solve]\naugment = false\nlambda = 1e-6\n[preserve]\neveryday = false\n{PAIR}'
ORIGIN = Origin("blue", "", "0", "", (0.1,), ("k", "v"), None, ())
STRENGTHS = (1.0, 0.35, -0.5)


@pytest.fixture(scope="module")
def node() -> ModuleType:
    """What the node does, which needs no ComfyUI."""
    spec = importlib.util.spec_from_file_location("conditioning", NODE / "conditioning.py")
    assert spec and spec.loader
    module = sys.modules["conditioning"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def operator(width: int, seed: int = 1) -> Operator:
    return Operator(random(width, 3, seed=seed) / width**0.5, random(3, width, seed=seed + 1), 1.0)


def written(path: Path, origin: Origin = ORIGIN, seed: int = 1, **widths: int) -> str:
    """A delta of some streams, of which the widths are given."""
    save_delta(Delta({stream: operator(width, seed) for stream, width in widths.items()}, origin), path)
    return str(path)


def conditioning(text: int, pooled: int | None, dtype: torch.dtype = torch.float32) -> list[Any]:
    """Two prompts of different lengths, the first cut into three chunks as ComfyUI does, with more that is set."""
    extras: dict[str, Any] = {} if pooled is None else {POOLED_KEY: random(1, pooled, seed=4).to(dtype)}
    return [
        [random(1, 231, text, seed=5).to(dtype), {**extras, "guidance": 3.5, "attention_mask": torch.ones(1, 231)}],
        [random(1, 77, text, seed=6).to(dtype), dict(extras)],
    ]


POOLED_KEY = "pooled_output"


def off(found: torch.Tensor, wanted: torch.Tensor, before: torch.Tensor) -> float:
    """How far what was found is from what is wanted, in lengths of the way."""
    return float((found.double() - wanted.double()).norm() / (before.double() - wanted.double()).norm())


@pytest.mark.parametrize("strength", STRENGTHS)
def test_unedited_maps_read_of_it_what_edited_ones_read_of_the_conditioning(
    node: ModuleType, strength: float, tmp_path: Path
) -> None:
    """SDXL's widths: 140 maps of the text, one of the pooled vector beside sizes and crops."""
    key, entry = random(64, 2048, seed=8), random(32, 2816, seed=9)
    given, sizes = conditioning(2048, 1280), random(1, 1536, seed=10)
    delta = node.read(written(tmp_path / "d", text=2048, pooled=1280))
    other = node.read(written(tmp_path / "other", seed=20, text=2048, pooled=1280))
    wide, narrow = (apply(matrix, operator(width), strength) for matrix, width in ((key, 2048), (entry, 1280)))

    def whole(extras: dict[str, Any]) -> torch.Tensor:
        return torch.cat([extras[POOLED_KEY], sizes], dim=1)

    for one, made, wrong in zip(given, *(node.edited(given, d, strength) for d in (delta, other)), strict=True):
        wanted, before = one[0] @ wide.T, one[0] @ key.T
        assert off(made[0] @ key.T, wanted, before) < 1e-5
        assert off(wrong[0] @ key.T, wanted, before) > 0.5, "the control: another delta"
        wanted, before = whole(one[1]) @ narrow.T, whole(one[1]) @ entry.T
        assert off(whole(made[1]) @ entry.T, wanted, before) < 1e-5
        assert off(whole(wrong[1]) @ entry.T, wanted, before) > 0.5, "the control: another delta"


def test_a_compiled_edit_of_a_transformer_is_the_same_on_its_conditioning(
    run: Run, node: ModuleType, tmp_path: Path
) -> None:
    model, manifest = small.saved("flux", tmp_path / "model"), tmp_path / "m.toml"
    manifest.write_text(MANIFEST)
    done = run("edit", manifest, model, "-o", tmp_path / "out", "--delta", tmp_path / "d")
    assert done.code == 0, done.err
    name = "transformer/diffusion_pytorch_model.safetensors"
    before, after = load_file(model / name), load_file(tmp_path / "out" / name)
    (one,) = given = [[random(1, 40, 16), {POOLED_KEY: random(1, 12)}]]
    ((states, extras),) = node.edited(given, node.read(str(tmp_path / "d")), 1.0)
    for entry, source, made in (
        ("context_embedder", one[0], states),
        ("time_text_embed.text_embedder.linear_1", one[1][POOLED_KEY], extras[POOLED_KEY]),
    ):
        old, new, bias = before[f"{entry}.weight"], after[f"{entry}.weight"], before[f"{entry}.bias"]
        wanted = source @ new.T + bias
        assert off(made @ old.T + bias, wanted, source @ old.T + bias) < 1e-4, entry
        assert (wanted - source @ old.T - bias).norm() > 1e-2 * wanted.norm(), "the control: it does something"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_nothing_of_the_input_changes_and_the_rest_is_handed_on(
    node: ModuleType, dtype: torch.dtype, tmp_path: Path
) -> None:
    given, same = conditioning(64, 32, dtype), conditioning(64, 32, dtype)
    delta = node.read(written(tmp_path / "d", text=64, pooled=32))
    made, still = node.edited(given, delta, 1.0), node.edited(given, delta, 0.0)
    for one, copy, after, kept in zip(given, same, made, still, strict=True):
        assert torch.equal(one[0], copy[0]) and torch.equal(one[1][POOLED_KEY], copy[1][POOLED_KEY])
        assert torch.equal(one[0], kept[0]) and torch.equal(one[1][POOLED_KEY], kept[1][POOLED_KEY]), "strength 0"
        assert not torch.equal(one[0], after[0]) and not torch.equal(one[1][POOLED_KEY], after[1][POOLED_KEY])
        assert after[0].dtype == after[1][POOLED_KEY].dtype == dtype
        assert after[1].keys() == one[1].keys() and after[1] is not one[1]
        assert all(after[1][key] is one[1][key] for key in one[1] if key != POOLED_KEY)


def test_float16_is_edited_in_float32(node: ModuleType, tmp_path: Path) -> None:
    given = conditioning(64, None, torch.float16)
    made = node.edited(given, node.read(written(tmp_path / "d", text=64)), 1.0)
    wanted = given[0][0].double() + operator(64).shift(given[0][0])
    assert torch.equal(made[0][0], wanted.half()) or off(made[0][0], wanted.half(), given[0][0]) < 1e-4


def test_a_delta_of_the_text_alone_leaves_the_vector(node: ModuleType, tmp_path: Path) -> None:
    given = conditioning(64, 48)
    made = node.edited(given, node.read(written(tmp_path / "d", text=64)), 1.0)
    assert made[0][1][POOLED_KEY] is given[0][1][POOLED_KEY]


@pytest.mark.parametrize(
    ("text", "pooled", "sentence"),
    [
        (96, 32, "text states of width 64 and this conditioning has 96"),
        (64, 48, "a pooled vector of width 32 and this conditioning has 48"),
        (64, None, "a pooled vector of width 32 and this conditioning has none"),
    ],
)
def test_another_width_is_refused(
    node: ModuleType, text: int, pooled: int | None, sentence: str, tmp_path: Path
) -> None:
    delta = node.read(written(tmp_path / "d", text=64, pooled=32))
    with pytest.raises(ValueError, match=sentence):
        node.edited(conditioning(text, pooled), delta, 1.0)
    node.edited(conditioning(64, 32), delta, 1.0)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"matrices": ("v",)}, "only keys or values"),
        ({"layers": (0, 3)}, "some layers"),
        ({"behind_norm": True}, "behind a norm"),
    ],
)
def test_an_edit_that_the_conditioning_is_not_the_place_of_is_refused(
    node: ModuleType, changes: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    assert node.read(written(tmp_path / "whole", text=64)).text.width == 64, "the control"
    with pytest.raises(ValueError, match=f"{sentence}.*timecli apply"):
        node.read(written(tmp_path / "part", replace(ORIGIN, **changes), text=64))


def test_what_is_no_delta_is_refused(node: ModuleType, tmp_path: Path) -> None:
    save_file({"left": random(4, 2), "right": random(2, 4)}, tmp_path / "model", {"format": "pt"})
    (tmp_path / "text").write_text("no safetensors")
    for name in ("model", "text", "gone"):
        with pytest.raises(ValueError, match=f"{name}.*delta"):
            node.read(str(tmp_path / name))
    save_file({"left": random(4, 2), "right": random(3, 4)}, tmp_path / "odd", {"timecli.delta": about()})
    save_file({"left": random(4, 2)}, tmp_path / "half", {"timecli.delta": about()})
    save_file({"left": random(4, 2), "right": random(2, 4)}, tmp_path / "next", {"timecli.delta": about(format=2)})
    for name in ("odd", "half", "next"):
        with pytest.raises(ValueError, match=name):
            node.read(str(tmp_path / name))
    save_file({"left": random(4, 2), "right": random(2, 4)}, tmp_path / "whole", {"timecli.delta": about()})
    assert node.read(str(tmp_path / "whole")).pooled is None, "the control, as it was before there were norms"


def about(**changes: Any) -> str:
    return json.dumps({"format": 1, "name": "x", "matrices": ["k", "v"], "layers": None, **changes})


def raw(path: Path, metadata: object, left: object = None, tail: bytes = b"") -> str:
    """A safetensors file of a delta, with any header."""
    entries: dict[str, Any] = {"__metadata__": metadata}
    entries["left"] = left or {"dtype": "F32", "shape": [4, 2], "data_offsets": [0, 32]}
    entries["right"] = {"dtype": "F32", "shape": [2, 4], "data_offsets": [32, 64]}
    text = json.dumps(entries).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + (tail or torch.ones(16).numpy().tobytes()))
    return str(path)


BIG = 10**5
NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    "metadata",
    [
        "[" * BIG + "]" * BIG,
        '{"a":' * BIG + "1" + "}" * BIG,
        '{"format": ' + "9" * 5000 + "}",
        *("null", "5", '"x"', "[]", "{}", "", "{", "\ud800".encode("utf-8", "replace").decode()),
        *(about(matrices=value) for value in (5, True, None, "kv", {"k": 1, "v": 2}, [["k"], ["v"]], [1, 2], [{}], [])),
        *(about(layers=value) for value in (5, "x", {}, [[1]], ["a"], [])),
        *(about(format=value) for value in (None, True, 1.0, "1", [1], {}, NAN)),
        *(about(behind_norm=value) for value in ("x", [], {}, 5)),
    ],
    ids=lambda text: text[:40],
)
def test_odd_metadata_is_one_sentence(metadata: str, node: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"odd .*; (compile|take|edit) ") as found:
        node.read(raw(tmp_path / "odd", {"timecli.delta": metadata}))
    assert len(str(found.value)) < 600 and "\n" not in str(found.value)
    assert node.read(raw(tmp_path / "plain", {"timecli.delta": about()})).text.width == 4, "the control"


@pytest.mark.parametrize("name", [5, None, [], {"a": "b"}, "x" * BIG])
def test_an_odd_name_is_a_name(name: object, node: ModuleType, tmp_path: Path) -> None:
    delta = node.read(raw(tmp_path / "d", {"timecli.delta": about(name=name)}))
    assert isinstance(delta.name, str) and len(delta.name) < 300


@pytest.mark.parametrize("value", [NAN, INF, -INF])
@pytest.mark.parametrize("name", ["left", "right", "pooled.left", "pooled.right"])
def test_nan_and_infinity_are_refused(name: str, value: float, node: ModuleType, tmp_path: Path) -> None:
    tensors = {"left": random(4, 2), "right": random(2, 4), "pooled.left": random(4, 2), "pooled.right": random(2, 4)}
    save_file(tensors, tmp_path / "d", {"timecli.delta": about()})
    delta = node.read(str(tmp_path / "d"))
    for strength in (NAN, INF):
        with pytest.raises(ValueError, match="strength is"):
            node.edited(conditioning(4, 4), delta, strength)
    tensors[name][1, 1] = value
    save_file(tensors, tmp_path / "d", {"timecli.delta": about()})
    with pytest.raises(ValueError, match=r"NaN or infinite values\); compile it again"):
        node.read(str(tmp_path / "d"))


def test_an_edit_that_leads_out_of_the_numbers_is_refused(node: ModuleType) -> None:
    """Factors can be finite and their product not, or not in fp16."""
    half = node.Operator(torch.full((4, 1), 1e3), torch.full((1, 4), 1e3))
    states = torch.ones(1, 2, 4)
    assert half(states, 1.0).isfinite().all(), "the control"
    for operator, given in (
        (node.Operator(torch.full((4, 1), 3e38), torch.full((1, 4), 3e38)), states),
        (half, states.half()),
    ):
        with pytest.raises(ValueError, match="makes the conditioning infinite; lower the strength"):
            operator(given, 1.0)


def test_factors_of_another_form_are_refused(node: ModuleType, tmp_path: Path) -> None:
    good = {"left": random(4, 2), "right": random(2, 4)}
    wrong = [
        {"left": random(4, 2).double(), "right": random(2, 4)},
        {name: tensor.half() for name, tensor in good.items()},
        {name: tensor.int() for name, tensor in good.items()},
        {"left": random(4, 0), "right": random(0, 4)},
        {"left": random(0, 2), "right": random(2, 0)},
        {"left": random(4), "right": random(4)},
        {"left": random(4, 2, 1), "right": random(1, 2, 4)},
        {"left": torch.tensor(1.0), "right": torch.tensor(1.0)},
        {"right": random(2, 4)},
        {"other": random(2, 4)},
        {**good, "pooled.left": random(4, 2)},
        {**good, "pooled.right": random(2, 4)},
        {**good, "pooled.left": random(4, 2), "pooled.right": random(3, 4)},
    ]
    for number, tensors in enumerate(wrong):
        save_file(tensors, tmp_path / str(number), {"timecli.delta": about()})
        with pytest.raises(ValueError, match="damaged delta.*compile it again"):
            node.read(str(tmp_path / str(number)))


def test_headers_that_are_none_are_one_sentence(node: ModuleType, tmp_path: Path) -> None:
    place, whole = tmp_path / "odd", {"timecli.delta": about()}
    good = Path(raw(tmp_path / "good", whole)).read_bytes()
    twice = b'{"left": {"dtype":"F32","shape":[4,2],"data_offsets":[0,32]},' * 2 + b"}"
    for content in (
        *(b"", b"x", b"\xff" * 8, (2**40).to_bytes(8, "little") + b"{", good[:-1], good + b"x"),
        len(twice).to_bytes(8, "little") + twice,
    ):
        place.write_bytes(content)
        with pytest.raises(ValueError, match="odd .*delta"):
            node.read(str(place))
    for metadata in ({"timecli.delta": 5}, {"timecli.delta": None}, {"timecli.delta": {}}, 5, [], None):
        with pytest.raises(ValueError, match="odd .*delta"):
            node.read(raw(place, metadata))
    place.unlink()
    place.mkdir()
    os.mkfifo(tmp_path / "odd pipe")
    for name in ("odd", "odd pipe"):
        with pytest.raises(ValueError, match="no file"):
            node.read(str(tmp_path / name))


@pytest.mark.parametrize(("family", "normed"), [("qwen-image", True), ("z-image", True), ("chroma", False)])
def test_a_delta_says_whether_it_was_compiled_behind_a_norm(
    family: str, normed: bool, run: Run, node: ModuleType, tmp_path: Path
) -> None:
    model, manifest = small.saved(family, tmp_path / "model"), tmp_path / "m.toml"
    manifest.write_text(MANIFEST)
    done = run("edit", manifest, model, "-o", tmp_path / "out", "--delta", tmp_path / "d")
    assert done.code == 0, done.err
    assert run("diff", model, tmp_path / "out", "--delta", tmp_path / "found").code == 0
    for made in (tmp_path / "d", tmp_path / "found"):
        assert load_delta(made).origin.behind_norm == normed
        if normed:
            with pytest.raises(ValueError, match="behind a norm"):
                node.read(str(made))
        else:
            assert node.read(str(made)).text.width == load_delta(made).operators[TEXT].width


def test_pooled_is_called_as_comfyui_and_a_delta_call_it(node: ModuleType, tmp_path: Path) -> None:
    assert node.POOLED == POOLED_KEY
    delta = node.read(written(tmp_path / "d", text=64, pooled=32))
    assert torch.equal(delta.pooled.left, load_delta(tmp_path / "d").operators[POOLED].left)


def test_the_node_needs_torch_and_safetensors_alone() -> None:
    code = "import sys; import conditioning; print(*{name.split('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], cwd=NODE, capture_output=True, text=True, check=True)
    assert not {"timecli", "diffusers", "transformers"} & set(done.stdout.split())
    assert {"torch", "safetensors"} <= set(done.stdout.split()), "the control"


HELPERS = '''
import torch

class Make:
    """A conditioning as a text encoder's node gives it."""
    RETURN_TYPES, FUNCTION, CATEGORY = ("CONDITIONING",), "make", "tests"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"seed": ("INT", {"default": 0})}}

    def make(self, seed):
        torch.manual_seed(seed)
        return ([[torch.randn(1, 77, 64), {"pooled_output": torch.randn(1, 32)}]],)

class Keep:
    """Where a workflow ends."""
    RETURN_TYPES, FUNCTION, CATEGORY, OUTPUT_NODE = (), "keep", "tests", True
    found = []

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"before": ("CONDITIONING",), "after": ("CONDITIONING",)}}

    def keep(self, before, after):
        Keep.found.append((before, after))
        return {}

NODE_CLASS_MAPPINGS = {"Make": Make, "Keep": Keep}
'''
WORKFLOW = """
import asyncio, inspect, json
import comfy.options
comfy.options.enable_args_parsing()
import utils.install_util  # before nodes puts ComfyUI's folder with another utils in front, as main.py does
import execution, nodes, server, torch

def workflow(delta, strength):
    return {
        "1": {"class_type": "Make", "inputs": {"seed": 3}},
        "2": {"class_type": "TimecliApplyDelta",
              "inputs": {"conditioning": ["1", 0], "delta": delta, "strength": strength}},
        "3": {"class_type": "Keep", "inputs": {"before": ["1", 0], "after": ["2", 0]}},
    }

async def main():
    asked = inspect.signature(execution.PromptExecutor).parameters
    cache = {"cache_args": {"lru": 0, "ram": 0.0}} if "cache_args" in asked else {}
    executor = execution.PromptExecutor(server.PromptServer(asyncio.get_running_loop()), **cache)
    await nodes.init_external_custom_nodes()
    said = {}
    for name, delta, strength in (("whole", "d", 1.0), ("part", "part", 1.0), ("gone", "gone", 1.0), ("far", "d", 9.0)):
        prompt = workflow(delta, strength)
        valid, error, outputs, errors = await execution.validate_prompt(name, prompt, None)
        said[name] = [valid, json.dumps([error, errors], default=str)]
        if valid:
            await executor.execute_async(prompt, name, {}, outputs)
            said[name] += [executor.success, json.dumps(executor.status_messages, default=str)]
    torch.save(nodes.NODE_CLASS_MAPPINGS["Keep"].found, FOUND)
    print(json.dumps(said))

asyncio.run(main())
"""


def require_comfyui() -> None:
    if importlib.util.find_spec("comfy_execution") is None:
        pytest.skip("ComfyUI is not on PYTHONPATH")


@pytest.fixture(scope="module")
def comfyui(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A workflow by ComfyUI's own loader of nodes, validation and executor: the folder, and what it said."""
    require_comfyui()
    base = tmp_path_factory.mktemp("ComfyUI")
    shutil.copytree(NODE, base / "custom_nodes" / "timecli")
    (base / "custom_nodes" / "helpers.py").write_text(HELPERS)
    (base / "models" / "timecli").mkdir(parents=True)
    written(base / "models" / "timecli" / "d", text=64, pooled=32)
    written(base / "models" / "timecli" / "part", replace(ORIGIN, matrices=("v",)), text=64)
    script, output = base / "workflow.py", base / "found.pt"
    script.write_text(WORKFLOW.replace("FOUND", repr(str(output))))
    options = ["--cpu", "--base-directory", base, "--front-end-root", base]
    done = subprocess.run([sys.executable, script, *options], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return output, json.loads(done.stdout.splitlines()[-1])


def test_comfyui_runs_the_node(comfyui: tuple[Path, dict[str, Any]]) -> None:
    output, said = comfyui
    assert said["whole"][0] and said["whole"][2], said["whole"]
    (((before,), (after,)),) = torch.load(output)  # of the one workflow that came to its end
    for one, made, width in ((before[0], after[0], 64), (before[1][POOLED_KEY], after[1][POOLED_KEY], 32)):
        assert off(made, one.double() + operator(width).shift(one), one) < 1e-5
        assert off(one, one.double() + operator(width).shift(one), one) == 1, "the control"


def test_comfyui_says_what_is_wrong(comfyui: tuple[Path, dict[str, Any]]) -> None:
    _, said = comfyui
    valid, _, success, messages = said["part"]
    assert valid and not success and "only keys or values" in messages and "ValueError" in messages
    assert not said["gone"][0] and "gone" in said["gone"][1]
    assert not said["far"][0] and "strength" in said["far"][1]


def test_comfyui_s_networks_draw_of_it_what_edited_ones_draw() -> None:
    require_comfyui()
    done = subprocess.run([sys.executable, ROOT / "tests" / "comfyui.py", NODE], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert list(found) == ["FLUX.1", "SD 3", "SDXL"]
    for name, off in found.items():
        assert off["edited"] < 1e-4, name
        assert off["other"] > 0.1 and off["alone"] > 0.01, "the control: another edit, and one of the text alone"
