"""ComfyUI as a person has it: its server, its page in Chromium, a workflow that is loaded, a pair that is typed.

Beside a checkout of ComfyUI with its requirements; `SCREENSHOTS=docs` keeps what is seen.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from .conftest import ROOT
from .test_comfyui import NODE, require_comfyui

WAIT = 600.0
PAIR, EMPTY = "A rose -> A blue rose", "# one edit a line"


def until(what: Callable[[], Any], seconds: float = WAIT) -> Any:
    """What a question gives as soon as it gives something."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(OSError):
            if found := what():
                return found
        time.sleep(0.5)
    raise AssertionError("nothing came")


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of ComfyUI's with the nodes, and with picturebook in place of a model of gigabytes."""
    require_comfyui()
    spec = importlib.util.find_spec("comfy_execution")
    assert spec and spec.submodule_search_locations
    comfyui, base = Path(next(iter(spec.submodule_search_locations))).parent, tmp_path_factory.mktemp("ComfyUI")
    shutil.copytree(NODE, base / "custom_nodes" / "timecli")
    loader = "import sys\nsys.path[:0] = PATHS\nfrom comfyui_picturebook import NODE_CLASS_MAPPINGS\n"
    paths = [str(ROOT), str(ROOT / "tests")]
    (base / "custom_nodes" / "picturebook.py").write_text(loader.replace("PATHS", repr(paths)))
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    options = ["--cpu", "--port", str(port), "--base-directory", base, "--database-url", "sqlite:///:memory:"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with open(base / "log", "wb") as log:
        server = subprocess.Popen(
            [sys.executable, comfyui / "main.py", *options], env=environment, stdout=log, stderr=log
        )
        try:
            where = f"http://127.0.0.1:{port}"
            until(lambda: server.poll() is None and urllib.request.urlopen(f"{where}/object_info").status == 200)
            yield where
        finally:
            server.terminate()
            server.wait(30)


def asked(address: str) -> Any:
    """What the server says of the workflows that have run, by number."""
    return list(json.loads(urllib.request.urlopen(f"{address}/history").read()).values())


def workflow() -> dict[str, Any]:
    """That for SD 1.5, for picturebook."""
    found: dict[str, Any] = json.loads((NODE / "workflows" / "sd15.json").read_text())
    for one in found["nodes"]:
        if one["type"] == "CheckpointLoaderSimple":
            one.update(type="LoadPicturebook", widgets_values=["picturebook.safetensors"])
        elif one["type"] == "EmptyLatentImage":
            one["widgets_values"] = [64, 64, 4]
        elif one["type"] == "KSampler":
            one["widgets_values"] = [3, "fixed", 12, 7.5, "euler", "normal", 1.0]
        elif one["type"] == "CLIPTextEncode":
            one["widgets_values"] = ["A rose"] if one["id"] == 3 else [""]
        elif one["type"] == "TimecliEditAssumption":
            one["widgets_values"] = [EMPTY, 1.0]
    return found


def opened(address: str, window: Any, flow: dict[str, Any]) -> None:
    """ComfyUI's page with a workflow on it."""
    size = {"width": 1640, "height": 860, "deviceScaleFactor": 1, "mobile": False}
    window.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    seen = json.dumps({"Comfy.TutorialCompleted": True}).encode()  # else a window of examples stands before everything
    asking = {"data": seen, "headers": {"Content-Type": "application/json"}, "method": "POST"}
    urllib.request.urlopen(urllib.request.Request(f"{address}/settings", **asking))
    window.driver.get(address)
    until(lambda: window.run("return !!(window.app && window.app.graph && window.app.canvas)"), 120)
    time.sleep(5)  # until the page has put its own workflow there
    window.run("window.app.loadGraphData(arguments[0])", flow)
    window.run("window.app.canvas.ds.scale = 0.85; window.app.canvas.ds.offset = [90, 70]")
    until(lambda: window.all("textarea"), 60)


def kept(window: Any, name: str) -> None:
    """A screenshot, if one is asked for."""
    if folder := os.environ.get("SCREENSHOTS"):
        window.driver.save_screenshot(str(Path(folder) / name))


@pytest.mark.parametrize("name", ["sdxl", "flux1"])
def test_a_workflow_is_loaded_whole(name: str, address: str, window: Any) -> None:
    """Every node is known, with its values and links; a model of gigabytes is not at hand to draw with."""
    flow = json.loads((NODE / "workflows" / f"{name}.json").read_text())
    opened(address, window, flow)
    nodes = window.run(
        "return window.app.graph._nodes.map(one => [one.type, !!window.LiteGraph.registered_node_types[one.type], "
        "one.widgets_values ?? (one.widgets ?? []).map(widget => widget.value), one.inputs.map(input => input.link)])"
    )
    assert sorted(one[0] for one in nodes) == sorted(one["type"] for one in flow["nodes"])
    assert all(known for _, known, _, _ in nodes)
    assert sum(link is not None for *_, links in nodes for link in links) == len(flow["links"])
    (values,) = (values for kind, _, values, _ in nodes if kind == "TimecliEditAssumption")
    assert "a rose -> a blue rose" in json.dumps(values)
    time.sleep(3)
    kept(window, f"comfyui-{name}.png")


def test_a_pair_that_is_typed_changes_the_picture(address: str, window: Any) -> None:
    opened(address, window, workflow())
    field = next(one for one in window.all("textarea") if one.get_attribute("value") == EMPTY)
    nothing = queued(address, window)
    assert nothing["status"]["status_str"] == "error" and "the text has no edit" in json.dumps(nothing["status"])
    window.press(window.one("body"), "\ue00c")
    window.run("arguments[0].focus()", field)
    field.send_keys(f"\n{PAIR}")
    edited = pictures(address, queued(address, window))
    time.sleep(3)  # until the pictures are on the page
    said = window.run("return document.body.innerText")
    kept(window, "comfyui-node.png")
    slider = "window.app.graph.getNodeById(2).widgets.find(one => one.name === 'strength').value = 0"
    window.run(slider)
    plain = pictures(address, queued(address, window))
    assert len(edited) == len(plain) == 4
    for one, other in zip(edited, plain, strict=True):
        assert np.abs(one - other).mean() > 5, "of 255"
        assert (one - other)[..., 2].mean() > (one - other)[..., 0].mean(), "bluer"
    assert "A rose goes 100% of its way to A blue rose" in said


def queued(address: str, window: Any) -> Any:
    """What came of the workflow that is on the page."""
    count = len(asked(address))
    window.run("window.app.queuePrompt(0)")
    return until(lambda: asked(address)[count:])[0]


def pictures(address: str, done: Any) -> list[np.ndarray]:
    """The pictures of a workflow, 0 to 255."""
    assert done["status"]["status_str"] == "success", done["status"]
    found = [one for output in done["outputs"].values() for one in output.get("images", [])]
    places = [f"{address}/view?{urllib.parse.urlencode(one)}" for one in found]
    return [np.asarray(Image.open(urllib.request.urlopen(place)).convert("RGB")).astype(float) for place in places]
