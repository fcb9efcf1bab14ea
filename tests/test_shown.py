"""What reaches a terminal, a page or a reader of JSON is letters, whatever the names and texts of strangers hold."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from timecli.commands import about, terminal
from timecli.drawing.numbers import per_prompt
from timecli.drawing.report import markdown
from timecli.manifests import manifest
from timecli.manifests.rows import Row
from timecli.shown import all_of, amount, brief, harmless, in_markdown, shortened

from .conftest import Run

NASTY = "\x1b[31mred\x9b2J\x7f\b [/] [bold]x[/bold] :rose: \u202egnp.x\u2066 \ud800 a\nb"
HARMLESS = "\\x1b[31mred\\x9b2J\\x7f\\x08 [/] [bold]x[/bold] :rose: \\u202egnp.x\\u2066 \\ud800 a\\nb"
MANIFEST = 'name = "x"\n[[edit]]\nsource = "a rose [/] :rose:"\ndestination = "a blue rose [/] :rose:"\n'


def command(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
    whole = [sys.executable, "-m", "timecli", *map(str, arguments)]
    return subprocess.run(whole, stderr=subprocess.PIPE, text=True, check=False, **options)  # type: ignore[call-overload,no-any-return]


def test_everything_but_letters_is_written_out() -> None:
    assert harmless(NASTY) == HARMLESS
    assert harmless("caf\udce9") == "caf\\xe9", "a byte that is not UTF-8"
    assert harmless("a\tb\nc\r\x1b", "\n\t") == "a\tb\nc\\r\\x1b"
    for letters in ("A rose, (red) [x] `|` <b>", "é 日本 Ω 🌹 עברית", "👩\u200d🚀", "C:\\new"):
        assert harmless(letters) == letters, "the control: letters stay"


def test_a_number_has_its_noun_in_the_right_number() -> None:
    assert [amount(count, "seed") for count in (0, 1, 2, 1000)] == ["0 seeds", "1 seed", "2 seeds", "1,000 seeds"]
    assert amount(1, "matrix", "matrices") == "1 matrix" and amount(3, "matrix", "matrices") == "3 matrices"
    assert [all_of(count, "edit") for count in (1, 2, 3)] == ["the edit", "both edits", "all 3 edits"]


def test_a_page_shows_what_was_written() -> None:
    assert in_markdown("a|b `c` <img src=x> ![d](http://e) *f* _g_ &amp; $h$") == (
        "a\\|b \\`c\\` \\<img src=x\\> !\\[d\\](http\\://e) \\*f\\* \\_g\\_ \\&amp; \\$h\\$"
    )
    assert in_markdown("A vase of roses, 5 o'clock") == "A vase of roses, 5 o'clock", "the control"
    found = {"manifest": "x", "model": "a_b|c.safetensors", "seeds": [0], "steps": 1, "guidance": 1.0}
    found |= {"doubts": [], "thresholds": [], "balances": {}}
    prompts = per_prompt([Row("source", "a | b\n# c\x1b", "<script>")], [None], None, {}, {})
    page = markdown({**found, "edits": {"after": {}}, "scores": None, "missed": [], "prompts": prompts})
    assert "| source | a \\| b\\\\n\\# c" in page.replace("# c", "\\# c") and "\n# c" not in page and "\x1b" not in page
    assert "\\<script\\>" in page and "# x on a\\_b\\|c.safetensors" in page


def test_values_in_sentences_are_short() -> None:
    assert brief(True) == "true" and brief(None) == "null" and brief("a") == "'a'"
    assert len(brief("x" * 10_000)) < 600
    assert "digits" in brief(1 << 40_000)


def test_a_sentence_that_quotes_a_file_is_short_and_keeps_its_end(run: Run, small: Path, tmp_path: Path) -> None:
    record = json.dumps([{"name": f"edit {i}"} for i in range(2000)])
    save_file(load_file(small), tmp_path / "many.safetensors", metadata={"timecli.edits": record})
    (tmp_path / "x.toml").write_text(f'name = "x"\n[[edit]]\nsource = "{"{a|b} " * 2000}"\ndestination = "A rose"\n')
    for done, end in (
        (run("edit", tmp_path / "x.toml", tmp_path / "many.safetensors", "-o", tmp_path / "o"), "use --stack."),
        (run("plan", tmp_path / "x.toml"), "write the words alone."),
    ):
        said = done.err.splitlines()[0]
        assert said.endswith(end) and len(said) < 2200 and " ... " in said, said[:300]
    capped = "a" * 1500 + " ... " + "c" * 500
    assert shortened("a" * 1500 + "b" + "c" * 500) == capped and shortened("a" * 2000) == "a" * 2000


def test_lines_and_tables_keep_markup_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.say(NASTY)
    terminal.complain(NASTY)
    terminal.print_table(("a", "b"), [(NASTY, "[/]"), ("[red]", ":rose:")])
    shown = capsys.readouterr()
    assert shown.out.startswith(HARMLESS + "\n") and shown.err == f"timecli: {HARMLESS}\n"
    assert HARMLESS in shown.out.splitlines()[4] and "│ [red]" in shown.out and ":rose:" in shown.out


def test_a_manifest_keeps_its_lines(capsys: pytest.CaptureFixture[str]) -> None:
    about.print_about({"form": NASTY, "manifest": "a\r\n\tb\x1b[2J\nc\r"})
    about.print_manifests([{"name": "x", "manifest": "a\n\x9bb"}, {"name": NASTY}])
    out = capsys.readouterr().out
    assert "manifest:\na\n\tb\\x1b[2J\nc\\r\n" in out and "a\n\\x9bb\n" in out and f"# {HARMLESS}, made" in out


def test_json_is_ascii_that_every_reader_takes(capsys: pytest.CaptureFixture[str]) -> None:
    data = {"a\udce9": [NASTY, "é🌹"], "b": {"c": (1, float("nan"), float("inf"))}}
    terminal.print_data(data)
    out = capsys.readouterr().out
    assert out.isascii() and not any(ord(letter) < 32 and letter != "\n" or letter == "\x7f" for letter in out)
    found = json.loads(out)
    assert found == {"a\\xe9": [NASTY.replace("\ud800", "\\ud800"), "é🌹"], "b": {"c": [1, None, None]}}
    json.dumps(found, ensure_ascii=False).encode()  # no half letters


@pytest.fixture
def nasty(small: Path, tmp_path: Path) -> Path:
    """A model whose tensor names, title and file name are an attack."""
    path = tmp_path / "n\x1b[2J[b]:rose:.safetensors"
    save_file({**load_file(small), NASTY.replace("\ud800", ""): torch.zeros(1)}, path, {"modelspec.title": "\x1b[31mT"})
    return path


def obeyed(text: str) -> list[str]:
    return [letter for letter in text if letter != harmless(letter, "\n\t")]


def test_names_of_tensors_files_and_options(run: Run, nasty: Path, small: Path, tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text(MANIFEST)
    (tmp_path / "key.toml").write_text(MANIFEST + '"a\\u001b[2J\\nforged" = 1\n')
    out = tmp_path / "out\x1b.safetensors"
    done = [
        run("inspect", nasty),
        run("diff", nasty, small),
        run("diff", small, nasty, "--json"),
        run("plan", tmp_path / "x.toml", nasty),
        run("edit", tmp_path / "x.toml", nasty, "-o", out),
        run("inspect", out, "--textconv"),
        run("plan", tmp_path / "key.toml"),
        run("inspect", "\x1b[2J\nforged"),
        run("edit", "--no\x1b[2Jption"),
        run("no\x1b[2J"),
        run("export", "a", "b", "-o", "c", "--format", "\x1b"),
    ]
    assert [one.code for one in done] == [0, 0, 0, 0, 0, 0, 2, 2, 2, 2, 2]
    for one in done:
        assert obeyed(one.out + one.err) == []
        assert all(line.startswith("timecli: ") for line in one.err.splitlines())
    assert all(part in done[1].out for part in ("\\x1b", "[/]", ":rose:")) and "[/]" in done[5].out
    for one in done[6:]:
        assert one.err.count("\n") == 1


def test_mistakes_in_the_arguments_are_one_sentence(run: Run) -> None:
    for arguments, sentence in (
        (["edit"], "Missing argument 'MANIFEST... MODEL'"),
        (["apply", "a", "b", "--strength", "nan"], "'--strength'"),
        (["apply", "a", "b", "--strength", "3"], "'--strength'"),
        (["verify", "a", "b", "--seeds", "99999999999"], "'--seeds'"),
        (["verify", "a", "b", "--steps", "1001"], "'--steps'"),
        (["verify", "a", "b", "--guidance", "nan"], "'--guidance'"),
        (["verify", "a", "b", "--guidance", "inf"], "'--guidance'"),
        (["export", "a", "b", "-o", "c", "--tolerance", "nan"], "'--tolerance'"),
        (["bench", "a", "b", "-o", "c", "--seeds", "0"], "'--seeds'"),
        (["tune", "a", "b", "--seeds", "1000000"], "'--seeds'"),
    ):
        done = run(*arguments)
        assert done.code == 2 and done.err.startswith("timecli: ") and sentence in done.err, done.err
        assert done.err.count("\n") == 1 and "--help`." in done.err
    assert "Commands:" in run().out, "without arguments there is help"


def test_a_traceback_is_harmless_too_and_ends_in_the_same_code(run: Run) -> None:
    done = run("--debug", "plan", "\x1b[2J.toml")
    assert done.code == 2 and "Traceback" in done.err and "ManifestError" in done.err and obeyed(done.err) == []


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes of this system are others")
def test_a_reader_that_goes_away_stops_nothing_and_a_full_disk_is_said(small: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    save_file({**load_file(small), "more": torch.zeros(1)}, other)
    for arguments in (["schema"], ["--help"]):
        read, write = os.pipe()
        os.close(read)
        gone = command(*arguments, stdout=write)
        os.close(write)
        assert (gone.returncode, gone.stderr) == (0, "")
    for arguments in (["schema"], ["diff", small, other]):
        with open("/dev/full", "w") as full:
            done = command(*arguments, stdout=full)
        assert done.returncode == 2 and done.stderr.startswith("timecli: stdout cannot be written: No space left")
        assert done.stderr.count("\n") == 1
    assert command("schema", stdout=subprocess.DEVNULL).returncode == 0, "the control"


def test_a_prompt_with_dollars_is_no_formula() -> None:
    """Text between two dollars is mathematics to a plot."""
    pytest.importorskip("matplotlib")
    from timecli.measuring import plots, schedule, tables

    text = 'name = "{0}"\n[[edit]]\nsource = "a {0} $\\\\frac{{$"\ndestination = "b"\n[balance]\n'
    text += 'descriptions = ["c", "d"]\nvalidation = "a $\\\\x$ {0}"\n'
    manifests = [manifest.parse(text.format(name)) for name in ("one", "two")]
    jobs = schedule.jobs(manifests, [schedule.Configuration()], cross=True)
    groups = [(batch.model, group) for batch in schedule.batches(manifests, jobs, 2, 8) for group in batch.groups]
    answers = {(model, group.prompt, texts): (0, 1) for model, group in groups for texts in group.questions}
    figure = plots.crossed(tables.collect(jobs, answers), answers)
    assert figure is not None
    figure.savefig(BytesIO(), format="png")
    labels = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert labels == ["a one $\\frac{$", "a two $\\frac{$"]
    figure.axes[0].set_title(labels[0])
    with pytest.raises(ValueError):  # the control: read as mathematics it is an error
        figure.savefig(BytesIO(), format="png")


NAME = os.fsdecode(b"caf\xe9")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_names_that_are_not_utf8(run: Run, small: Path, tmp_path: Path) -> None:
    """Every command goes on with them, or says in one sentence that they cannot be opened."""
    recipe, model = tmp_path / f"{NAME}.toml", tmp_path / f"{NAME}.safetensors"
    recipe.write_text(MANIFEST)
    model.write_bytes(small.read_bytes())
    out = tmp_path / f"out-{NAME}.safetensors"
    assert run("plan", recipe).code == 0
    done = run("edit", recipe, small, "-o", out)
    assert done.code == 0 and f"wrote {tmp_path}/out-caf\\xe9.safetensors" in done.out and out.exists()
    done = run("edit", recipe, small, "--delta", tmp_path / f"{NAME}.delta", "--json")
    assert done.code == 0 and json.loads(done.out)["written"] == [f"{tmp_path}/caf\\xe9.delta"]
    for arguments in (
        ("inspect", model),
        ("edit", recipe, model),
        ("apply", tmp_path / f"{NAME}.delta", small, "-o", tmp_path / "x"),
        ("export", tmp_path / f"{NAME}.delta", small, "-o", tmp_path / "x"),
        ("diff", model, small),
        ("import", "timed", tmp_path / f"{NAME}.csv", "-o", tmp_path / "x"),
        ("plan", tmp_path / f"{NAME}-none.toml"),
        ("edit", recipe, small, "--dtype", NAME),
        ("edit", recipe, small, "--tokenizer", tmp_path / NAME),
        (NAME,),
    ):
        done = run(*arguments)
        assert done.code == 2 and done.err.startswith("timecli: ") and done.err.count("\n") == 1, done
        assert "caf\\x" in done.err or "caf\\udce9" in done.err


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are others elsewhere")
def test_no_memory_is_one_sentence(small: Path, tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text(MANIFEST)
    for limit in ("250000", "unlimited"):
        script = f'ulimit -v {limit}; exec "{sys.executable}" -m timecli edit "$0" "$1" -o "$2"'
        arguments = [tmp_path / "x.toml", small, tmp_path / "out.safetensors"]
        done = subprocess.run(["bash", "-c", script, *map(str, arguments)], capture_output=True, text=True, check=False)
        if limit == "unlimited":
            assert done.returncode == 0, "the control"
            continue
        assert done.returncode == 2 and done.stderr.startswith("timecli: there is not enough memory"), done.stderr
        assert done.stderr.count("\n") == 1 and not (tmp_path / "out.safetensors").exists()
