"""The nodes for ComfyUI that patch the MODEL: what is typed, where tokens stand, and what is drawn.

As in `test_comfyui.py`, what needs ComfyUI's own code runs beside a checkout of it, and is skipped elsewhere.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

import timecli
from timecli.errors import CheckpointError, ManifestError, PromptError
from timecli.models import layouts

from .conftest import ROOT, Run
from .test_comfyui import NODE, require_comfyui


@pytest.fixture(scope="module")
def pack() -> ModuleType:
    """The node's folder as a package, of which nothing is loaded that needs ComfyUI."""
    package = sys.modules["comfyui_pack"] = ModuleType("comfyui_pack")
    package.__path__ = [str(NODE)]
    for name in ("asking", "positions", "package"):
        setattr(package, name, import_module(f"comfyui_pack.{name}"))
    return package


def test_what_is_typed_is_a_manifest(pack: ModuleType) -> None:
    lines = ["# flowers", "  a rose -> a blue rose : 0.5", "", 'A cat->a "green" cat', "a 16:9 cat -> a red 16:9 cat"]
    text = "\n".join([*lines, "= a dog"])
    read = pack.asking.read(text)
    assert [(edit.source, edit.destination, edit.strength) for edit in read.edits] == [
        ("a rose", "a blue rose", 0.5),
        ("A cat", 'a "green" cat', None),
        ("a 16:9 cat", "a red 16:9 cat", None),
    ]
    assert read.preserve.prompts == ("a dog",) and read.preserve.world and read.name == "a-blue-rose"
    assert pack.asking.read("ein Tisch -> ein größerer Tisch 🙂\x7f").edits[0].destination.endswith("Tisch 🙂\x7f")
    assert pack.asking.read("バラ -> 青いバラ").name == "edit"
    assert pack.asking.read("a rose -> a blue rose", clip_skip=2).solve.clip_skip == 2
    assert read.text.count("[[edit]]") == 3, "the text that a delta keeps"


@pytest.mark.parametrize(
    ("line", "destination", "strength"),
    [
        ("a rose -> a blue rose: 0.5", "a blue rose", 0.5),
        ("a rose->a blue rose:.5", "a blue rose", 0.5),
        ("a rose -> a blue rose : 2", "a blue rose", 2),
        ("a rose -> a rose at 16:9", "a rose at 16:9", None),
        ("a rose -> a rose: a flower", "a rose: a flower", None),
    ],
)
def test_a_strength_stands_behind_a_colon(
    pack: ModuleType, line: str, destination: str, strength: float | None
) -> None:
    (edit,) = pack.asking.read(line).edits
    assert (edit.destination, edit.strength) == (destination, strength)


def test_a_manifest_s_path_is_read(pack: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "a b.toml").write_text('name = "x"\n[[edit]]\nsource = "a cat"\ndestination = "a red cat"\n')
    assert pack.asking.read(f" {tmp_path / 'a b.toml'}\n").name == "x"
    for text in (f'"{tmp_path / "a b.toml"}"', f"# flowers\n{tmp_path / 'a b.toml'}"):
        assert pack.asking.read(text).name == "x", "as a file manager copies a path, and below a remark"
    with pytest.raises(ManifestError, match="gone.toml"):
        pack.asking.read(str(tmp_path / "gone.toml"))
    with pytest.raises(ManifestError, match=f"^{re.escape(os.getcwd())}.gone.toml cannot be read"):
        pack.asking.read("gone.toml")


def test_what_was_written_anew_is_told(pack: ModuleType, tmp_path: Path) -> None:
    path, everyday = tmp_path / "m.toml", tmp_path / "few.txt"
    pair = 'name = "x"\n[[edit]]\nsource = "a cat"\ndestination = "a red cat"\n[preserve]\neveryday = "few.txt"\n'
    path.write_text(pair)
    everyday.write_text("a dog\n")
    seen = [pack.asking.written(str(path))]
    for place in (path, everyday):
        os.utime(place, (1, len(seen)))
        seen.append(pack.asking.written(str(path)))
    assert len(set(seen)) == 3
    assert pack.asking.written("a rose -> a blue rose") == pack.asking.written(str(tmp_path / "gone.toml")) == "[]"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "the text has no edit; write a line such as"),
        ("= a red rose", "the text has no edit"),
        ("a rose -> a blue rose\na cat", "line 2 is 'a cat'; write SOURCE -> DESTINATION"),
        ("a rose -> a blue rose -> a red rose", "line 1 is"),
        ("-> a blue rose", "line 1 is"),
        ("a rose -> A  Rose", "the text: edit.0.: source and destination are both 'a rose'"),
        ("a rose -> a blue rose : 99", "the text: edit.0..strength"),
        ("a rose -> a blue rose: 0,5", "line 1 has '0,5' for a strength; write a number such as 0.5"),
        ("a rose -> a blue rose : -1", "line 1 has '-1' for a strength"),
        ("a rose -> a blue rose : 50%", "line 1 has '50%' for a strength"),
        ("a rose --> a blue rose", "line 1 is"),
        ("a rose ->> a blue rose", "line 1 is"),
        ("a rose <-> a blue rose", "line 1 is"),
        ("a rose -> a blue rose\na rose -> a red rose", "already the source"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(pack: ModuleType, text: str, sentence: str) -> None:
    with pytest.raises(ManifestError, match=sentence) as found:
        pack.asking.read(text)
    assert "\n" not in str(found.value)


def words(pack: ModuleType, names: str, end: int | None, pad: int) -> Any:
    return pack.positions.Words(dict(enumerate(names.split())), end, pad)


def test_tokens_stand_where_comfyui_puts_their_states(pack: ModuleType) -> None:
    clip = words(pack, "<start> <end> a</w> ro se</w>", 1, 1)
    t5 = words(pack, "<pad> </s> ▁a ▁rose", 1, 0)
    chat = words(pack, "<pad> user a rose assistant", None, 0)
    one, two = pack.positions.segments([(clip, [0, 2, 3, 4, 1, 1, 1]), (t5, [2, 3, 1, 0, 0])], 12)
    assert (one.first, one.stop, one.tokens[1:4]) == (0, 5, ("a", "ro", "se")), "up to the first end token"
    assert (two.first, two.stop, len(two.tokens)) == (0, 3, 5)
    (cut,) = pack.positions.segments([(chat, [1, 2, 3, 4])], 3)
    assert cut.tokens == ("a", "rose", "assistant") and (cut.first, cut.stop) == (0, 3), "a template's beginning"
    (front,) = pack.positions.segments([(chat, [0, 0, 2, 3])], 4)
    assert (front.first, front.stop) == (2, 4), "padding in front"
    for tokens, rows in (([(clip, [0, 1])], 3), ([(clip, [0, 1]), (t5, [1])], 2)):
        with pytest.raises(CheckpointError, match=f"{rows} states for"):
            pack.positions.segments(tokens, rows)


def test_every_family_says_which_encoder_s_tokens_are_its_text(pack: ModuleType) -> None:
    keys = pack.positions.keys
    assert keys(layouts.SD1, ["l"]) == ["l"] and keys(layouts.SD2, ["h"]) == ["h"]
    assert keys(layouts.SDXL, ["g", "l"]) == ["l"], "the same tokens at the same positions"
    assert keys(layouts.SD3, ["g", "l", "t5xxl"]) == ["l", "t5xxl"] and keys(layouts.SD3, ["g", "l"]) == ["l"]
    assert keys(layouts.SD3, ["t5xxl"]) == ["t5xxl"] and keys(layouts.FLUX1, ["l", "t5xxl"]) == ["t5xxl"]
    assert keys(layouts.QWEN_IMAGE, ["qwen25_7b"]) == ["qwen25_7b"] and keys(layouts.CHROMA, ["t5xxl"]) == ["t5xxl"]
    for family, given in ((layouts.FLUX1, ["l"]), (layouts.QWEN_IMAGE, ["l", "t5xxl"]), (layouts.SD1, [])):
        with pytest.raises(CheckpointError, match=f"this MODEL is {family.name}; connect the CLIP"):
            keys(family, given)


def test_a_prompt_of_several_chunks_is_refused(pack: ModuleType) -> None:
    vector = torch.zeros(3)  # of a textual inversion
    assert pack.positions.single("x", [[(1, 1.0), (vector, 1.0), (2, 1.0)]]) == [1, pack.positions.EMBEDDING, 2]
    with pytest.raises(PromptError, match="'x' is longer than the 2 tokens"):
        pack.positions.single("x", [[(1, 1.0), (2, 1.0)], [(3, 1.0)]])


def test_a_missing_or_another_timecli_is_one_sentence(pack: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    pack.package.require()
    assert timecli.__version__.startswith(f"{pack.package.NEEDED}.")
    monkeypatch.setattr(timecli, "__version__", "7.0.1")
    with pytest.raises(RuntimeError, match=r"needs timecli 0.1, and the one that is installed is 7.0.1; install"):
        pack.package.require()
    monkeypatch.setitem(sys.modules, "timecli", ModuleType("timecli"))
    with pytest.raises(RuntimeError, match="is of another program; install"):
        pack.package.require()
    monkeypatch.setitem(sys.modules, "timecli", None)
    with pytest.raises(RuntimeError, match="which cannot be loaded .*; install requirements.txt"):
        pack.package.require()


def beside_comfyui(script: str, *arguments: str | Path) -> dict[str, Any]:
    """What a script says in a process with ComfyUI's own code."""
    require_comfyui()
    where = [str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(where)}
    command = [sys.executable, ROOT / "tests" / script, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    if "skip" in said:
        pytest.skip(said["skip"])
    return said


FAMILIES = {
    # its streams, whether a norm stands before its map
    "SD 1": (["text"], False),
    "SD 2": (["text"], False),
    "SDXL": (["pooled", "text"], False),
    "SD 3": (["pooled", "text"], False),
    "FLUX.1": (["pooled", "text"], False),
    "Chroma": (["text"], False),
    "Qwen-Image": (["text"], True),
    "FLUX.2 dev": (["text"], False),
    "Z-Image": (["text"], True),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_comfyui_draws_with_the_patched_model_what_it_draws_of_edited_text(family: str, tmp_path: Path) -> None:
    found = beside_comfyui("comfyui_model.py", family, tmp_path)
    streams, normed = FAMILIES[family]
    assert found["origin"] == ["ComfyUI", normed, streams]
    assert found["none"] and found["unplugged"] and found["restored"] and found["fp8"], "to the bit"
    for name in ("two in a row", "behind a lora", "before a lora"):
        assert found[name] < 1e-5, name
    assert max(found["weights"].values()) < 1e-5
    for name in ("picture", "batch", "regions", "joined", "mixed", "timed"):
        assert found[name] < 1e-4, name
    if not normed:
        assert found["one prompt alone"] > 1e-3, "the control"
    few = 7  # prompts of the list, with the empty one
    assert [few, few] in found["shown"] and {total for _, total in found["shown"]} <= {1, few}, "progress in the node"
    assert {value for value, _ in found["shown"]} >= set(range(few + 1)), "a step for each prompt"
    batched = found["batched"]
    assert batched["apart"] < 1e-5, "prompts that are read together are those that are read alone"
    assert batched["alone"][1] == 1 and batched["together"][1] > 1 < batched["alone"][0] / batched["together"][0]
    rose, cat = found["aligned"]
    assert [word for word in rose if word in ("a", "rose")] == ["a", "rose"] * (2 if family == "SD 3" else 1)
    assert "".join(word for word in cat if word.strip("<>|/")).find("(") > 0, "a bracket is a bracket"
    assert "blue" not in found["goes to"] and "rose" in found["goes to"]
    assert "a rose goes " in found["sentence"] and " moves most: " in found["sentence"]


def test_comfyui_draws_picturebook_as_diffusers_does(run: Run, picturebook: Path, tmp_path: Path) -> None:
    """The same edit and the same noise: ComfyUI's sampler on the patched MODEL, diffusers on the edited file."""
    found = beside_comfyui("comfyui_drawn.py", tmp_path)
    (rose, dog), (off, _) = found["moved"], found["apart"]
    assert rose > 0.1 and found["bluer"][0] > 0.05, "the rose becomes blue"
    assert dog < rose / 4 and off < rose / 10, "the dog stays, and both draw the same"
    done = run("apply", tmp_path / "rose.delta", picturebook, "-o", tmp_path / "applied.safetensors", "--dtype", "fp32")
    assert done.code == 0, done.err
    assert (tmp_path / "applied.safetensors").read_bytes() == (tmp_path / "edited.safetensors").read_bytes()


def test_comfyui_s_states_are_the_command_line_s_where_the_length_is_given(tmp_path: Path) -> None:
    found = beside_comfyui("comfyui_states.py", "FLUX.1", tmp_path)
    assert found["node"] == pytest.approx(1, abs=1e-4)
    assert found["for ComfyUI, rows"] == [256, 256] and found["for ComfyUI, apart"] < 1e-4
    assert found["for ComfyUI"] == pytest.approx(1, abs=1e-3)
    assert found["command line"] < 0.9, "the control: 512 positions"


@pytest.mark.parametrize("family", ["Qwen-Image", "Z-Image", "FLUX.2 dev"])
def test_comfyui_s_states_are_as_good_as_the_command_line_s(family: str, tmp_path: Path) -> None:
    """Of FLUX.2 the command line has padding in front, which no word looks at."""
    found = beside_comfyui("comfyui_states.py", family, tmp_path)
    own, other = found["command line, rows"]
    assert found["command line, apart"] < 1e-4 if own == other else family == "FLUX.2 dev"
    for name in ("node", "command line", "command line, reads what the node solved"):
        assert found[name] == pytest.approx(1, abs=1e-4), name


@pytest.mark.parametrize("name", ["sd15", "sdxl", "flux1"])
def test_a_workflow_is_whole(name: str) -> None:
    flow = json.loads((NODE / "workflows" / f"{name}.json").read_text())
    nodes = {node["id"]: node for node in flow["nodes"]}
    for number, first, out, second, into, kind in flow["links"]:
        one, other = nodes[first]["outputs"][out], nodes[second]["inputs"][into]
        assert number in one["links"] and other["link"] == number and one["type"] == other["type"] == kind
    assert all(one["link"] for node in nodes.values() for one in node["inputs"]), "nothing hangs loose"
    ours = [node for node in nodes.values() if node["type"].startswith("Timecli")]
    assert [node["type"] for node in ours] == ["TimecliEditAssumption"]
    registered = (NODE / "__init__.py").read_text()
    for known in ("TimecliApplyDelta", "TimecliEditAssumption", "TimecliApplyDeltaToModel", "TimecliSaveEdit"):
        assert f'"{known}": ' in registered, "saved workflows have these names"
