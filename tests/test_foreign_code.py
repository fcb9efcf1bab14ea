"""A model's folder may hold code and ask for it: none runs, nobody is asked, and one sentence says so."""

from __future__ import annotations

import ast
import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jinja2
import pytest
import torch
import transformers

from timecli.drawing.judge import load_judge
from timecli.errors import CheckpointError
from timecli.files import code

from . import small
from .conftest import PICTUREBOOK, ROOT, ROSES, Run
from .test_transformers import manifest

__all__ = ["manifest"]  # the fixture
PLANTED = "from pathlib import Path\nPath({!r}).touch()\n"
MAP = {
    "AutoTokenizer": ["planted.Planted", "planted.Planted"],
    **{name: "planted.Planted" for name in ("AutoConfig", "AutoModel", "AutoProcessor", "AutoImageProcessor")},
}
LOADERS = {"from_pretrained", "from_single_file"}


def planted(folder: Path, marker: Path) -> None:
    """Code that leaves a mark where it is imported, in a folder and in those within it."""
    for one in (folder, *(path for path in folder.iterdir() if path.is_dir())):
        (one / "planted.py").write_text(PLANTED.format(str(marker)))


def asks(path: Path, **more: Any) -> None:
    """Let a config ask for the code beside it."""
    path.write_text(json.dumps({**json.loads(path.read_text()), **(more or {"auto_map": MAP})}))


@pytest.fixture(scope="module")
def klein(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose tokenizer is read by transformers' `AutoTokenizer`, and has a template for chats."""
    return small.saved("klein", tmp_path_factory.mktemp("klein") / "model")


@pytest.fixture
def copy(klein: Path, tmp_path: Path) -> Path:
    shutil.copytree(klein, tmp_path / "model")
    planted(tmp_path / "model", tmp_path / "marker")
    return tmp_path / "model"


@pytest.fixture
def picturebook_copy(picturebook_folder: Path, tmp_path: Path) -> Path:
    shutil.copytree(picturebook_folder, tmp_path / "picturebook")
    shutil.copytree(PICTUREBOOK / "judge", tmp_path / "picturebook" / "judge")
    planted(tmp_path / "picturebook", tmp_path / "marker")
    return tmp_path / "picturebook"


def answered_yes(*arguments: object) -> subprocess.CompletedProcess[str]:
    """The command line, where everything that it may ask is answered with yes."""
    command = [sys.executable, "-m", "timecli", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HOME": str(Path(arguments[-1]).parent / "hf")}
    return subprocess.run(command, input="yes\n" * 100, capture_output=True, text=True, env=environment, timeout=120)


@pytest.mark.parametrize("command", ["inspect", "plan", "edit", "verify"])
def test_where_every_config_asks_for_code_none_runs_and_nobody_is_asked(
    command: str, copy: Path, manifest: Path, tmp_path: Path
) -> None:
    configs = [path for path in copy.rglob("*.json") if code.CONFIG.fullmatch(path.name)]
    assert {path.parent.name for path in configs} >= {"model", "text_encoder", "tokenizer", "transformer", "scheduler"}
    for path in configs:
        asks(path)
    given = [copy] if command == "inspect" else [manifest, copy]
    done = answered_yes(command, *given, *(["-o", tmp_path / "out"] if command in ("edit", "verify") else []))
    assert done.returncode == 2, done.stderr
    assert "auto_map asks for code of its own, and timecli runs no code" in done.stderr
    assert done.stderr.count("\n") == 1 and "y/N" not in done.stdout + done.stderr
    assert not (tmp_path / "marker").exists() and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "more", "sentence"),
    [
        ("model_index.json", {"_class_name": ["planted", "Planted"]}, "_class_name is ['planted', 'Planted'], which"),
        ("model_index.json", {"unet": ["planted", "Planted"]}, "unet asks for code of 'planted'"),
        ("model_index.json", {"scheduler": ["os", "system"]}, "scheduler asks for code of 'os'"),
        ("model_index.json", {"more": ["planted", "Planted"]}, "more asks for code of 'planted'"),
        ("model_index.json", {"custom_pipeline": "planted"}, "custom_pipeline asks for code"),
        ("unet/config.json", {"auto_map": MAP}, "auto_map asks for code"),
        ("vae/config.json", {"x": [{"y": {"auto_map": MAP}}]}, "auto_map asks for code"),
        ("vae/config.json", {"x": float("nan"), "auto_map": MAP}, "auto_map asks for code"),
        ("scheduler/scheduler_config.json", {"auto_map": MAP}, "auto_map asks for code"),
        ("tokenizer/tokenizer_config.json", {"auto_map": MAP}, "auto_map asks for code"),
        ("text_encoder/config.json", {"attn_implementation": "someone/planted"}, "asks for code to fetch"),
        ("text_encoder/config.json", {"_attn_implementation": {"a": "b/c"}}, "asks for code to fetch"),
        ("judge/config.json", {"auto_map": MAP}, "auto_map asks for code"),
        ("judge/config.json", {"transformers_weights": "x.bin"}, "asks for weights of another name"),
        ("judge/preprocessor_config.json", {"auto_map": MAP}, "auto_map asks for code"),
        ("judge/tokenizer_config.json", {"audio_tokenizer": {}}, "asks for another model"),
    ],
)
def test_each_config_alone_is_refused(
    name: str, more: dict[str, Any], sentence: str, run: Run, picturebook_copy: Path, tmp_path: Path
) -> None:
    sound = (picturebook_copy / name).read_text()
    asks(picturebook_copy / name, **more)
    done = run("edit", ROSES, picturebook_copy, "-o", tmp_path / "out")
    assert done.code == 2 and f"{picturebook_copy / name}: " in done.err and sentence in done.err, done.err
    assert done.err.count("\n") == 1 and not (tmp_path / "out").exists() and not (tmp_path / "marker").exists()
    (picturebook_copy / name).write_text(sound)
    code.require_none(picturebook_copy)  # the control


def test_what_is_given_beside_a_model_is_looked_at_too(run: Run, picturebook: Path, tmp_path: Path) -> None:
    for name in ("judge", "config"):
        shutil.copytree(PICTUREBOOK / name, tmp_path / name)
    tokenizer, few = tmp_path / "config" / "tokenizer", tmp_path / "few"
    few.mkdir()
    (few / "config.json").write_text('{"auto_map": {}}')
    asks(tmp_path / "judge" / "tokenizer_config.json")
    asks(tokenizer / "tokenizer_config.json")
    for option, folder in (("--config", tmp_path / "config"), ("--tokenizer", tokenizer), ("--text-encoder", few)):
        done = run("edit", ROSES, picturebook, option, folder, "-o", tmp_path / "out")
        assert done.code == 2 and "auto_map asks for code" in done.err, (option, done.err)
    done = run("verify", ROSES, picturebook, "--judge", tmp_path / "judge", "-o", tmp_path / "out")
    assert done.code == 2 and "judge/tokenizer_config.json: auto_map asks for code" in done.err, done.err
    assert not (tmp_path / "out").exists()


def test_words_and_files_that_no_library_follows_ask_for_nothing(picturebook_copy: Path) -> None:
    for name in ("vocab.json", "tokenizer.json", "model.safetensors.index.json"):
        (picturebook_copy / "tokenizer" / name).write_text('{"auto_map": 1}')
    (picturebook_copy / "notes.json").write_text('{"auto_map": 1}')
    (picturebook_copy / "lora").mkdir()
    (picturebook_copy / "lora" / "adapter_config.json").write_text('{"base_model_name_or_path": "x"}')
    asks(picturebook_copy / "unet" / "config.json", auto_map=None)
    code.require_none(picturebook_copy)
    shutil.copy(picturebook_copy / "lora" / "adapter_config.json", picturebook_copy / "judge")
    with pytest.raises(CheckpointError, match="base_model_name_or_path asks for another model"):
        code.require_none(picturebook_copy)


def test_the_libraries_run_none_where_the_first_look_misses_it(
    run: Run, copy: Path, picturebook_copy: Path, manifest: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What asks in a way that is not known yet."""
    monkeypatch.setattr(code, "require_none", lambda folder: None)
    questions: list[str] = []
    monkeypatch.setattr("builtins.input", lambda text="": questions.append(text) or "n")
    table = copy / "tokenizer" / "tokenizer_config.json"
    asks(table, auto_map=MAP, tokenizer_class="Planted")
    done = run("plan", manifest, copy)
    assert done.code == 2 and "tokenizer" in done.err and questions == [], done.err
    for name in ("config.json", "tokenizer_config.json", "preprocessor_config.json"):
        asks(picturebook_copy / "judge" / name)
    load_judge(picturebook_copy / "judge", torch.device("cpu"))  # its classes are known, so that nothing is asked
    assert questions == [] and not (tmp_path / "marker").exists()
    with pytest.raises(ValueError, match="custom code"):
        transformers.AutoTokenizer.from_pretrained(copy / "tokenizer", local_files_only=True)
    assert questions, "the control: transformers asks where nobody told it not to"


def calls_that_load(source: str) -> list[tuple[int, bool]]:
    """Lines that name a loader of a library, and whether each is a call that lets no code run."""
    tree = ast.parse(source)
    called = {node.func: node for node in ast.walk(tree) if isinstance(node, ast.Call)}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in LOADERS:
            keywords = called[node].keywords if node in called else []
            values = [ast.unparse(word.value) for word in keywords if word.arg == "trust_remote_code"]
            found.append((node.lineno, values == ["False"]))
    return sorted(found)


def test_every_call_that_can_run_code_says_that_it_must_not() -> None:
    found = {path: calls_that_load(path.read_text(encoding="utf-8")) for path in (ROOT / "timecli").rglob("*.py")}
    assert sum(map(len, found.values())) >= 9
    assert [(path.name, line) for path, calls in found.items() for line, safe in calls if not safe] == []
    assert calls_that_load(
        "A.from_pretrained(x)\nf = A.from_pretrained\nA.from_pretrained(trust_remote_code=True)"
    ) == [(1, False), (2, False), (3, False)]
    assert calls_that_load("A.from_pretrained(x, trust_remote_code=False)") == [(1, True)]


def test_nothing_of_the_package_opens_pickles() -> None:
    named = ("torch.load(", "pickle.load(", "pickle.loads(", "trust_remote_code=True", "weights_only=False")
    for path in (ROOT / "timecli").rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        calls = [ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Call)]
        assert not [call for call in calls if any(name in call for name in named)], path


class Planted:
    """What runs where it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return Path.touch, (self.marker,)


def test_pickles_in_place_of_weights_are_not_opened(
    run: Run, klein: Path, picturebook: Path, manifest: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Those of parts that are not needed, too."""
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("a pickle was opened"))
    content, marker = pickle.dumps(Planted(tmp_path / "marker")), tmp_path / "marker"
    shutil.copytree(PICTUREBOOK / "config", tmp_path / "config")
    index = tmp_path / "config" / "model_index.json"
    asks(index, image_encoder=["transformers", "CLIPVisionModelWithProjection"])
    (tmp_path / "config" / "image_encoder").mkdir()
    (tmp_path / "config" / "image_encoder" / "config.json").write_text("{}")
    (tmp_path / "config" / "learned_embeds.bin").write_bytes(content)
    for name in (
        "image_encoder/pytorch_model.bin",
        "text_encoder/pytorch_model.bin",
        "vae/diffusion_pytorch_model.bin",
    ):
        (tmp_path / "config" / name).write_bytes(content)
    (tmp_path / "few.txt").write_text("A dog\n")
    (tmp_path / "m.toml").write_text(
        'name = "x"\n[[edit]]\nsource = "A rose"\ndestination = "A blue rose"\n[preserve]\neveryday = "few.txt"\n'
    )
    drawing = ("--seeds", 1, "--steps", 1, "--no-cache")
    done = run(
        "verify", tmp_path / "m.toml", picturebook, "--config", tmp_path / "config", "-o", tmp_path / "a", *drawing
    )
    assert done.code == 0, done.err
    shutil.copytree(klein, tmp_path / "klein")
    (tmp_path / "klein" / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    (tmp_path / "klein" / "vae" / "diffusion_pytorch_model.bin").write_bytes(content)
    done = run("verify", manifest, tmp_path / "klein", "-o", tmp_path / "b", *drawing)
    assert done.code == 2 and "vae" in done.err.splitlines()[-1] and "Traceback" not in done.err, done.err
    assert not marker.exists()
    pickle.loads(content)
    assert marker.exists(), "the control"


ESCAPES = [
    "{{% for one in [].__class__.__base__.__subclasses__() %}}{{% if one.__name__ == '_wrap_close' %}}"
    "{{{{ one.__init__.__globals__['open']('{marker}', 'w') }}}}{{% endif %}}{{% endfor %}}",
    "{{{{ cycler.__init__.__globals__.os.system('touch {marker}') }}}}",
    "{{{{ raise_exception.__globals__['__builtins__']['open']('{marker}', 'w') }}}}",
]


@pytest.mark.parametrize("escape", ESCAPES)
@pytest.mark.parametrize("place", ["tokenizer_config.json", "chat_template.jinja"])
def test_templates_of_chats_reach_nothing(
    escape: str, place: str, run: Run, copy: Path, manifest: Path, tmp_path: Path
) -> None:
    template = escape.format(marker=tmp_path / "marker")
    (copy / "tokenizer" / "chat_template.jinja").unlink(missing_ok=True)
    if place.endswith(".json"):
        asks(copy / "tokenizer" / place, chat_template=template)
    else:
        (copy / "tokenizer" / place).write_text(template)
    done = run("plan", manifest, copy, "--no-cache")
    assert done.code == 2 and "unsafe" in done.err and done.err.count("\n") == 1, done.err
    assert not (tmp_path / "marker").exists()

    def raise_exception() -> None:
        """As transformers hands one to a template."""

    if "_wrap_close" not in escape:
        jinja2.Environment().from_string(template).render(raise_exception=raise_exception)
        assert (tmp_path / "marker").exists(), "the control: outside of a sandbox it is run"


def test_a_sound_model_is_planned_and_a_template_that_fails_is_a_sentence(
    run: Run, copy: Path, manifest: Path, tmp_path: Path
) -> None:
    assert run("plan", manifest, copy, "--no-cache").code in (0, 1), "the control"
    for template in ("{{ raise_exception('no') }}", "{% for %}", "{{ 1 / 0 }}"):
        (copy / "tokenizer" / "chat_template.jinja").write_text(template)
        done = run("plan", manifest, copy, "--no-cache")
        assert done.code == 2 and done.err.count("\n") == 1 and "the text encoders cannot read" in done.err, done.err
