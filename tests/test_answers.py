"""How commands answer: at once where a mistake needs no tensor, in JSON for machines, and not at all when asked to."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from timecli.commands import terminal
from timecli.files.safefile import open_file
from timecli.manifests.manifest import load
from timecli.models.checkpoint import EDITS

from .conftest import FEW, PICTUREBOOK, ROOT, ROSES, Run

CEO = PICTUREBOOK / "bench" / "professions" / "female-ceo.toml"

PLAIN = 'name = "x"\n[[edit]]\nsource = "A rose"\ndestination = "A blue rose"\n'
LOADED = """
import json, sys
from timecli.cli import main
for arguments in json.load(sys.stdin):
    print("@", *arguments, file=sys.stderr)
    try:
        main(arguments)
    except SystemExit as end:
        heavy = sorted({"torch", "transformers", "diffusers", "pydantic", "typeguard", "rich"} & sys.modules.keys())
        print(json.dumps([arguments, end.code, heavy]))
        if heavy:
            break
"""


def answered(commands: list[list[object]]) -> list[tuple[list[str], int, list[str]]]:
    """Every command's exit code, and what it loaded of the heavy libraries; one process for all."""
    given = json.dumps([list(map(str, command)) for command in commands])
    done = subprocess.run([sys.executable, "-c", LOADED], input=given, capture_output=True, text=True, check=True)
    return [tuple(json.loads(line)) for line in done.stdout.splitlines() if line.startswith("[[")]


def mistakes(tmp_path: Path, picturebook: Path, delta: Path, edited: Path) -> list[list[object]]:
    (tmp_path / "bad.toml").write_text("name = 3\n")
    (tmp_path / "half.safetensors").write_bytes(picturebook.read_bytes()[:100_000])
    (tmp_path / "there").write_bytes(b"x")
    (tmp_path / "empty").mkdir()
    m, out = ROSES, ["-o", tmp_path / "out"]
    found: list[list[object]] = []
    for command in ("edit", "plan", "verify", "tune", "bench"):
        end = out if command == "bench" else []
        found += [
            [command, *given, *end]
            for given in (
                ["nope.toml", picturebook],
                [m, "nope"],
                [m, "runwayml/stable-diffusion-v1-5"],
                [tmp_path / "bad.toml", picturebook],
                [m, tmp_path / "half.safetensors"],
                [picturebook, m],
                [m, edited],
                [m, picturebook, "--config", "nope"],
                [m, picturebook, "--tokenizer", "nope"],
                [m, picturebook, "--everyday", "nope"],
                [m, picturebook, "--text-encoder", "nope"],
                [m, picturebook, "--device", "tpu"],
                [m, picturebook, "--clip-skip", 0],
            )
        ]
    found += [[c, m, picturebook, "--judge", tmp_path / "empty", *out] for c in ("verify", "bench")]
    found += [
        ["edit", m, picturebook, "-o", tmp_path / "there"],
        ["edit", m, picturebook, "-o", tmp_path / "no" / "x"],
        ["edit", m, picturebook, "--dtype", "int8"],
        ["verify", m, picturebook, "-o", tmp_path / "there"],
        ["verify", m, picturebook, tmp_path / "nope"],
        ["verify", m, picturebook, tmp_path / "half.safetensors"],
        ["apply", picturebook, delta, *out],
        ["apply", delta, "nope", *out],
        ["apply", delta, delta, picturebook, *out],
        ["apply", delta, picturebook, "-o", tmp_path / "there"],
        ["export", picturebook, delta, *out],
        ["export", delta, picturebook, "-o", tmp_path / "there"],
        ["export", delta, picturebook, *out, "--format", "x"],
        ["init", "a rose", "a rose"],
        ["init", "a rose", "a blue rose", "nope"],
        ["everyday", "nope", *out],
        ["everyday", picturebook, *out, "--list", "nope"],
        ["diff", picturebook, tmp_path / "half.safetensors"],
        ["inspect", "nope"],
        ["inspect", tmp_path / "half.safetensors"],
        ["import", "timed", "nope", *out],
        ["tune", m, picturebook, "-o", m],
        ["tune", m, picturebook, "--objective", "x"],
        ["bench", m, picturebook, *out, "--grid", "x=1"],
        ["bench", m, picturebook, *out, "--reference", "nope"],
    ]
    return found


@pytest.fixture
def delta(run: Run, picturebook: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("delta") / "x.delta"
    assert run("edit", ROSES, picturebook, "--delta", path).code == 0
    return path


def test_mistakes_that_need_no_tensor_are_answered_before_torch_is_loaded(
    run: Run, picturebook: Path, delta: Path, tmp_path: Path
) -> None:
    assert run("apply", delta, picturebook, "-o", tmp_path / "edited").code == 0
    commands = mistakes(tmp_path, picturebook, delta, tmp_path / "edited")
    found = answered(commands)
    assert [(arguments, code, heavy) for arguments, code, heavy in found if heavy or code != 2] == []
    assert len(found) == len(commands) > 80
    ((_, code, heavy),) = answered([["plan", ROSES, picturebook, "--device", "cpu"]])
    assert code == 0 and "torch" in heavy and "transformers" not in heavy, "the control"


def test_every_command_has_json_under_the_number_of_its_format(
    run: Run, picturebook: Path, delta: Path, tmp_path: Path
) -> None:
    (tmp_path / "x.toml").write_text(PLAIN + '[preserve]\neveryday = "few.txt"\n')
    (tmp_path / "few.txt").write_text(FEW)
    schema = json.loads((ROOT / "docs" / "output.schema.json").read_text(encoding="utf-8"))
    manifest, out = tmp_path / "x.toml", lambda name: ["-o", tmp_path / name]
    for name, *arguments in (
        ("edit", manifest, picturebook, "--delta", tmp_path / "d"),
        ("plan", manifest),
        ("plan", manifest, picturebook),
        ("apply", delta, picturebook, *out("a")),
        ("export", delta, picturebook, *out("b")),
        ("diff", picturebook, picturebook),
        ("inspect", picturebook),
        ("inspect", delta),
        ("init", "a rose", "a blue rose", *out("i.toml")),
        ("everyday", picturebook, *out("e")),
        ("verify", manifest, picturebook, *out("v"), "--seeds", 1, "--steps", 1),
        ("verify", manifest, picturebook, *out("w"), "--seeds", 1, "--steps", 1, "--vary", "strength=0.5,1"),
        ("tune", CEO, picturebook, "--seeds", 1, "--steps", 1),
        ("bench", manifest, picturebook, *out("t"), "--seeds", 2, "--steps", 1),
    ):
        done = run(name, *arguments, "--json")
        assert done.code == 0, done.err
        found = json.loads(done.out)
        assert (found["schema_version"], found["command"]) == (terminal.VERSION, name)
        jsonschema.validate(found, schema)
        with pytest.raises(jsonschema.ValidationError):  # the control
            jsonschema.validate({"schema_version": terminal.VERSION, "command": name}, schema)


def test_quiet_says_errors_and_nothing_else(run: Run, picturebook: Path, tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text(PLAIN)
    done = run("edit", tmp_path / "x.toml", picturebook, "-o", tmp_path / "a", "--quiet")
    assert (done.code, done.out, done.err) == (0, "", "")
    again = run("edit", tmp_path / "x.toml", picturebook, "-o", tmp_path / "a", "--quiet")
    assert again.code == 2 and again.err.count("\n") == 1
    loud = run("edit", tmp_path / "x.toml", picturebook, "-o", tmp_path / "b")
    assert "wrote" in loud.out, "the control: it does not last"


def test_what_is_tried_is_recorded_and_the_manifest_stays(run: Run, picturebook: Path, tmp_path: Path) -> None:
    text = PLAIN + "strength = 2 # too much\n"
    (tmp_path / "x.toml").write_text(text)
    tried = ["--strength", 0.5, "--lambda", 3, "--everyday-weight", 0.2]
    done = run("edit", tmp_path / "x.toml", picturebook, "-o", tmp_path / "tried", *tried, "--json")
    assert json.loads(done.out)["tried"] == {"lambda": 3.0, "everyday_weight": 0.2, "strength": 0.5}
    (tmp_path / "y.toml").write_text(PLAIN + "[solve]\nlambda = 3\nstrength = 0.5\n[preserve]\neveryday_weight = 0.2\n")
    assert run("edit", tmp_path / "y.toml", picturebook, "-o", tmp_path / "written").code == 0
    records = [json.loads(open_file(tmp_path / name).metadata[EDITS])[0] for name in ("tried", "written")]
    for key in ("lambdas", "strengths", "everyday_weight", "norm"):
        assert records[0][key] == records[1][key]
    (tmp_path / "again.toml").write_text(records[0]["manifest"])
    assert load(tmp_path / "again.toml").solve == load(tmp_path / "y.toml").solve
    assert "# too much" in records[0]["manifest"] and (tmp_path / "x.toml").read_text() == text
    assert run("plan", tmp_path / "x.toml", picturebook, "--fix", "--strength", 1).code == 2


def test_a_tried_value_moves_the_forecast(run: Run, picturebook: Path, tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text(PLAIN)
    shares = [
        json.loads(run("plan", tmp_path / "x.toml", picturebook, "--json", *tried).out)["forecasts"][0]["share"]
        for tried in ([], ["--strength", 0.5], ["--strength", 1])
    ]
    assert shares[1] == pytest.approx(shares[0] / 2, rel=1e-3) and shares[2] == pytest.approx(shares[0])


def test_progress_is_a_line_now_and_then_where_there_is_no_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = iter(range(0, 1000, 4))
    monkeypatch.setattr(terminal.time, "monotonic", lambda: float(next(clock)))
    with terminal.progress("drawing", 10) as tick:
        for _ in range(10):
            tick(1)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "drawing: 3 of 10 pictures, 28 s left",
        "drawing: 6 of 10 pictures, 16 s left",
        "drawing: 9 of 10 pictures, 4 s left",
    ]


def test_a_word_in_many_pieces_is_warned_of(run: Run, picturebook: Path, tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text(PLAIN.replace("rose", "zyxwvut"))
    done = run("plan", tmp_path / "x.toml", picturebook)
    assert "'zyxwvut' is 7 pieces to this model" in done.err
    assert "pieces" not in run("plan", PICTUREBOOK / "bench" / "test" / "blue-cow.toml", picturebook).err, "the control"
    done = run("init", "a zeppelin", "a blue zeppelin", picturebook, "-o", tmp_path / "z.toml")
    assert done.code == 0 and "'zeppelin' is 6 pieces to this model" in done.err
    done = run("init", "a yak", "a blue yak", picturebook, "-o", tmp_path / "y.toml")
    assert done.code == 0 and "'yak' is 3 pieces to this model (y, a, k)" in done.err, "letters alone"
    (tmp_path / "x.toml").write_text('name = "x"\n[[edit]]\nsource = "Yak"\ndestination = "A blue yak"\n')
    said = run("plan", tmp_path / "x.toml", picturebook).err
    assert "'Yak' is 3 pieces" in said and "'yak' is" not in said, "the same word to this model"


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("runwayml/stable-diffusion-v1-5", "run `hf download runwayml/stable-diffusion-v1-5 --local-dir DIR`"),
        ("https://huggingface.co/a/b.safetensors", "it is an address, and only files are read"),
        ("nope.safetensors", "nope.safetensors does not exist."),
        ("~/model.safetensors", "; in quotes ~ is not your home folder, so write /"),
        (
            "C:\\Users\\me\\a b.safetensors",
            "; it is a path of Windows, which WSL has as /mnt/c/Users/me/a b.safetensors.",
        ),
    ],
)
def test_what_is_no_file_here_is_told_what_it_may_be(run: Run, given: str, sentence: str) -> None:
    done = run("edit", ROSES, given)
    assert done.code == 2 and sentence in done.err and done.err.count("\n") == 1
