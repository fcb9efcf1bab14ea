"""Nothing of a user's is lost: what an output may replace, and what it leaves as it is."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import stat
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from timecli.errors import CheckpointError, OutputError
from timecli.files.targets import MODEL_FILE, check_target
from timecli.manifests import timed
from timecli.models.checkpoint import open_checkpoint
from timecli.shipping.publish import write_checkpoint

from .conftest import PICTUREBOOK, Run
from .stopped import make_folder, tree
from .test_unlucky import MANIFEST

UNET = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    (tmp_path / "x.toml").write_text(MANIFEST)
    return tmp_path / "x.toml"


@pytest.fixture
def folder(picturebook_folder: Path, tmp_path: Path) -> Path:
    """A model folder in which its owner keeps other things, too."""
    model = shutil.copytree(picturebook_folder, tmp_path / "model")
    (model / ".git" / "objects").mkdir(parents=True)
    for name in (".git/HEAD", "old.ckpt", "unet/diffusion_pytorch_model.bin", "unet/notes.txt", "notes.md"):
        (model / name).write_text(f"my {name}")
    (model / ".git" / "objects" / "object").write_text("my object")
    (model / "loras").mkdir()
    save_file({"lora": torch.ones(4)}, model / "loras" / "mine.safetensors")
    (model / "notes.md").chmod(0o600)
    return model


def inodes(root: Path) -> dict[str, int]:
    return {str(path.relative_to(root)): path.lstat().st_ino for path in [root, *root.rglob("*")]}


def marks(root: Path) -> dict[str, tuple[int, ...]]:
    """What shows that nothing was touched, without reading it."""
    found = {str(path): path.lstat() for path in root.rglob("*")}
    return {name: (s.st_ino, s.st_mode, s.st_size, s.st_mtime_ns) for name, s in found.items()}


@pytest.mark.parametrize("through", ["itself", "a link", "the working directory"])
def test_in_place_replaces_the_edited_files_and_nothing_else(
    through: str, run: Run, manifest: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / UNET).chmod(0o640)
    before, ids = tree(folder), inodes(folder)
    model = folder
    if through == "a link":
        model = tmp_path / "link"
        model.symlink_to(folder)
    elif through == "the working directory":
        monkeypatch.chdir(folder)
        model = Path(".")
    names = sorted(os.listdir(tmp_path))
    done = run("edit", manifest, model, "--in-place")
    assert done.code == 0, done.err
    after = tree(folder)
    assert [name for name in before if before[name] != after.get(name)] == [UNET] and before.keys() == after.keys()
    assert [name for name, inode in ids.items() if inodes(folder)[name] != inode] == [UNET]
    assert stat.S_IMODE((folder / UNET).stat().st_mode) == 0o640 and len(open_checkpoint(folder).edits) == 1
    assert sorted(os.listdir(tmp_path)) == names and model.is_symlink() == (through == "a link")


def test_in_place_with_a_dtype_converts_the_models_weights_and_no_other(run: Run, manifest: Path, folder: Path) -> None:
    before = tree(folder)
    assert run("edit", manifest, folder, "--in-place", "--dtype", "fp16").code == 0
    after = tree(folder)
    changed = {name for name in before if before[name] != after.get(name)}
    assert changed == {UNET, "vae/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors"}
    for name in changed:
        assert {tensor.dtype for tensor in load_file(folder / name).values()} == {torch.float16}


def test_links_stay_and_what_they_lead_to_is_edited(run: Run, manifest: Path, small: Path, folder: Path) -> None:
    """A file behind a link, and a folder whose files are links, as in a cache of a model hub."""
    root = folder.parent
    far = root / "far"
    far.mkdir()
    shutil.copy(small, far / "real.safetensors")
    (root / "link.safetensors").symlink_to("far/real.safetensors")
    assert run("edit", manifest, root / "link.safetensors", "--in-place").code == 0
    assert (root / "link.safetensors").is_symlink() and os.listdir(far) == ["real.safetensors"]
    assert len(open_checkpoint(far / "real.safetensors").edits) == 1
    shutil.move(folder / UNET, far / "blob")
    (folder / UNET).symlink_to(far / "blob")
    (folder / "unet" / "diffusion_pytorch_model.fp16.safetensors").symlink_to(far / "blob")
    assert run("edit", manifest, folder, "--in-place").code == 0
    assert (folder / UNET).is_symlink() and sorted(os.listdir(far)) == ["blob", "real.safetensors"]
    assert len(open_checkpoint(folder).edits) == 1


def test_an_output_behind_a_link_is_written_where_it_leads(run: Run, manifest: Path, small: Path) -> None:
    root = manifest.parent
    (root / "far").mkdir()
    (root / "link").symlink_to("far/out")
    for force in ([], ["--force"]):
        assert run("edit", manifest, small, "-o", root / "link", *force).code == 0
        assert (root / "link").is_symlink() and os.listdir(root / "far") == ["out"]
    (root / "astray").symlink_to("nowhere/out")
    done = run("edit", manifest, small, "-o", root / "astray")
    assert done.code == 2 and "nowhere is not a folder; create it first" in done.err


def test_force_names_what_would_go_and_replaces_models_only(
    run: Run, manifest: Path, folder: Path, picturebook_folder: Path, tmp_path: Path
) -> None:
    before = tree(folder)
    done = run("edit", manifest, picturebook_folder, "-o", folder, "--force")
    assert done.code == 2 and tree(folder) == before
    named = ".git, loras, notes.md, old.ckpt, unet/diffusion_pytorch_model.bin and 1 more"
    assert f"{folder} holds more than a model, and --force would remove it: {named}; move that away" in done.err
    assert run("edit", manifest, picturebook_folder, "-o", tmp_path / "out").code == 0
    for name in ("unet/diffusion_pytorch_model.fp16.safetensors", "safety_checker/model-00001-of-00002.safetensors"):
        (tmp_path / "out" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "out" / name).touch()
    (tmp_path / "out" / "link").symlink_to(folder)
    done = run("edit", manifest, picturebook_folder, "-o", tmp_path / "out", "--force")
    assert done.code == 2 and "would remove it: link;" in done.err
    (tmp_path / "out" / "link").unlink()
    assert run("edit", manifest, picturebook_folder, "-o", tmp_path / "out", "--force").code == 0
    wanted = {file.relative_to(picturebook_folder) for file in picturebook_folder.rglob("*") if file.is_file()}
    assert {file.relative_to(tmp_path / "out") for file in (tmp_path / "out").rglob("*") if file.is_file()} == wanted


def test_what_is_put_into_the_target_meanwhile_stays(folder: Path, tmp_path: Path) -> None:
    """The second look, when the output is complete."""
    make_folder(tmp_path / "in")
    write_checkpoint(open_checkpoint(tmp_path / "in", needs="nothing"), tmp_path / "out", {}, {}, None)
    (tmp_path / "out" / "diary").write_text("mine")
    with pytest.raises(OutputError, match="would remove it: diary;"):
        write_checkpoint(open_checkpoint(tmp_path / "in", needs="nothing"), tmp_path / "out", {}, {}, None)
    assert (tmp_path / "out" / "diary").exists()


def test_the_files_of_model_folders() -> None:
    own = """model_index.json unet/config.json unet/diffusion_pytorch_model.safetensors scheduler/scheduler_config.json
        unet/diffusion_pytorch_model-00001-of-00002.fp16.safetensors unet/diffusion_pytorch_model.non_ema.safetensors
        unet/diffusion_pytorch_model.fp16-00001-of-00002.safetensors text_encoder/model.fp16.safetensors
        unet/diffusion_pytorch_model.safetensors.index.fp16.json tokenizer/merges.txt tokenizer_2/vocab.json
        text_encoder_2/model.safetensors.index.json feature_extractor/preprocessor_config.json"""
    foreign = """config.json model.safetensors unet/mine.safetensors .git/config unet/a/config.json notes.txt
        unet/diffusion_pytorch_model.bin unet/model.ckpt README.md unet/.config.json model_index.json.bak"""
    assert all(MODEL_FILE.fullmatch(name) for name in own.split())
    assert not any(MODEL_FILE.fullmatch(name) for name in foreign.split())


def inputs(root: Path, picturebook: Path, picturebook_folder: Path) -> dict[str, Path]:
    """Every input that a command can have, below one folder that is a model's itself."""
    below = shutil.copytree(picturebook_folder, root / "around") / "below"
    shutil.copytree(picturebook_folder, below / "folder")
    for name in ("config", "judge"):
        shutil.copytree(PICTUREBOOK / name, below / name)
    shutil.copy(picturebook, below / "single")
    tests = 'positives = [{ prompt = "Roses", destination = "Blue roses" }]\n'
    tests += 'negatives = [{ prompt = "A car", destination = "A blue car" }]\n'
    (below / "manifest").write_text(MANIFEST + tests)
    (below / "reference").mkdir()
    (below / "reference" / "metadata.jsonl").touch()
    return {name: below / name for name in ("folder", "config", "judge", "single", "manifest", "reference", "delta")}


COMMANDS = [
    "edit manifest folder -o",
    "edit manifest folder --config config --tokenizer config/tokenizer --text-encoder folder/text_encoder -o",
    "edit manifest single --config config -o",
    "edit manifest single --config config --delta",
    "edit manifest single --text-encoder folder --tokenizer config/tokenizer -o",
    "apply delta single -o",
    "apply delta folder --text-encoder single -o",
    "export delta single --text-encoder folder -o",
    "diff single folder --text-encoder folder/text_encoder --delta",
    "tune manifest single --judge judge --config config --tokenizer config/tokenizer -o",
    "verify manifest single delta --judge judge --config config -o",
    "bench manifest single --judge judge --config config --reference reference -o",
]


@pytest.mark.parametrize("command", COMMANDS)
def test_no_input_of_any_command_can_be_its_output(
    command: str, run: Run, picturebook: Path, picturebook_folder: Path, tmp_path: Path
) -> None:
    """The output is one, lies in one, or holds one: plainly, through a link, and through a hard link."""
    places = inputs(tmp_path, picturebook, picturebook_folder)
    config = ("--config", places["config"])
    assert run("edit", places["manifest"], places["single"], *config, "--delta", places["delta"]).code == 0
    name, *words = command.split()
    words = [str(places[word.split("/")[0]].parent / word) if word.split("/")[0] in places else word for word in words]
    force = [] if name == "bench" else ["--force"]
    targets = []
    for i, path in enumerate(Path(word) for word in words if word.startswith("/")):
        link, hard = tmp_path / f"link{i}", tmp_path / f"hard{i}"
        link.symlink_to(path)
        if path.is_dir():
            targets += [path, link, path / "fresh", link / "fresh"]
        else:
            os.link(path, hard)
            targets += [path, link, hard]
    before = marks(tmp_path)
    for target in targets:
        done = run(name, *words, target, *force)
        assert done.code == 2 and done.err.count("\n") == 1, (target, done.err)
        files = " is a file; choose a folder" if name in ("bench", "verify") else " exists and is not a "
        assert "an input of this command" in done.err or files in done.err, (target, done.err)
        assert marks(tmp_path) == before, target
    if name in ("edit", "apply") and words[1] == str(places["folder"]):
        done = run(name, *words, tmp_path / "around", "--force")
        assert done.code == 2 and "around holds " in done.err and marks(tmp_path) == before, done.err


def test_links_out_of_an_input_count_and_links_that_lead_back_do_not(tmp_path: Path) -> None:
    """Beside its inputs an output is welcome."""
    (tmp_path / "in" / "unet").mkdir(parents=True)
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "model_index.json").touch()
    check_target(tmp_path / "out", [tmp_path / "in", tmp_path / "missing"], False, 0)
    (tmp_path / "in" / "vae").symlink_to(tmp_path / "shared" / "vae")
    (tmp_path / "shared" / "vae").mkdir()
    (tmp_path / "in" / "circle").symlink_to(tmp_path / "in")
    (tmp_path / "in" / "up").symlink_to(tmp_path)
    check_target(tmp_path / "out", [tmp_path / "in"], False, 0)
    with pytest.raises(OutputError, match="shared holds .*in, an input of this command"):
        check_target(tmp_path / "shared", [tmp_path / "in"], True, 0, folder=True)
    for target in (tmp_path / "shared" / "vae" / "x", tmp_path / "in" / "unet" / "x"):
        with pytest.raises(OutputError, match="x is an input of this command"):
            check_target(target, [tmp_path / "in"], True, 0)


@pytest.mark.parametrize("option", ["--text-encoder", "--tokenizer"])
def test_in_place_another_input_must_not_be_what_is_replaced(
    option: str, run: Run, manifest: Path, small: Path, folder: Path, tmp_path: Path
) -> None:
    model = shutil.copy(small, tmp_path / "m.safetensors")
    os.link(model, tmp_path / "hard")
    before = model.read_bytes()
    if option == "--tokenizer":
        places = [shutil.copytree(PICTUREBOOK / "config" / "tokenizer", tmp_path / "own")]
        model = Path(shutil.move(model, places[0] / "m.safetensors"))
    else:
        places = [model, tmp_path / "hard"]
    for other in places:
        done = run("edit", manifest, model, option, other, "--in-place")
        assert done.code == 2 and "m.safetensors is an input of this command" in done.err
        assert model.read_bytes() == before
    if option == "--text-encoder":
        command = ("edit", manifest, folder, option, folder / "text_encoder", "--in-place")
        done = run(*command, "--dtype", "fp16")
        assert done.code == 2 and "model.safetensors is an input of this command" in done.err
        assert run(*command).code == 0, "it is read, and stays"


def test_a_manifest_and_a_config_in_a_model_that_is_edited_in_place_are_no_obstacle(
    run: Run, manifest: Path, folder: Path
) -> None:
    shutil.copy(manifest, folder / "x.toml")
    assert run("edit", folder / "x.toml", folder, "--config", folder, "--in-place").code == 0


def test_devices_pipes_and_sockets_are_no_targets(run: Run, manifest: Path, small: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(tmp_path / "socket"))
    (tmp_path / "link").symlink_to("/dev/null")
    for target in (tmp_path / "pipe", tmp_path / "socket", tmp_path / "link", Path("/dev/null")):
        for option in ("-o", "--delta"):
            done = run("edit", manifest, small, option, target, "--force")
            assert done.code == 2 and done.err == (
                f"timecli: {target} exists and is not a file; choose another output.\n"
            )
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode) and stat.S_ISCHR(Path("/dev/null").stat().st_mode)
    (tmp_path / "report").mkdir()
    os.mkfifo(tmp_path / "report" / "sheet.png")
    done = run("verify", manifest, small, "-o", tmp_path / "report", "--force")
    assert done.code == 2 and "sheet.png exists and is not a file" in done.err


def test_a_pipe_or_a_dead_link_in_a_model_folder_is_named(folder: Path, tmp_path: Path) -> None:
    """It would be waited for without end, or be missing in the copy."""
    model = open_checkpoint(folder, needs="nothing")
    for make in (os.mkfifo, lambda path: path.symlink_to("nowhere")):
        make(folder / "vae" / "odd")
        with pytest.raises(CheckpointError, match="odd is not a file, or a link to nothing"):
            write_checkpoint(model, tmp_path / "out", {}, {}, None)
        (folder / "vae" / "odd").unlink()
    (folder / "vae" / "circle").symlink_to(folder)
    write_checkpoint(model, tmp_path / "out", {}, {}, None)
    assert not (tmp_path / "out" / "vae" / "circle").exists()


@pytest.mark.parametrize("target", [".", "..", "/", "sub/..", "./", "./."])
def test_a_place_that_is_no_name_is_one_sentence(
    target: str, run: Run, manifest: Path, small: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "sub").mkdir()
    delta = manifest.parent / "x.delta"
    assert run("edit", manifest, small, "--delta", delta).code == 0
    monkeypatch.chdir(folder)
    before = marks(folder.parent)
    for command in (
        ("edit", manifest, small, "-o"),
        ("edit", manifest, small, "--delta"),
        ("edit", manifest, PICTUREBOOK / "config" / ".." / ".." / "picturebook" / "config", "-o"),
        ("edit", manifest, folder.parent / "copy", "-o"),
        ("export", delta, small, "-o"),
        ("tune", manifest, small, "-o"),
    ):
        if "copy" in str(command[2]):
            shutil.copytree(folder, command[2])
            before = marks(folder.parent)
        for force in ([], ["--force"]):
            done = run(*command, target, *force)
            errors = [line for line in done.err.splitlines() if not line.startswith("timecli: warning: ")]
            assert done.code == 2 and len(errors) == 1, done.err
            assert marks(folder.parent) == before
    for place, name in ((folder, "."), (folder / "unet", "..")):
        monkeypatch.chdir(place)
        done = run("edit", manifest, folder.parent / "copy", "-o", name, "--force")
        assert "holds the folder that you are in; choose another output" in done.err


def test_tables_of_somebody_elses_are_not_replaced_by_a_bench(
    run: Run, manifest: Path, picturebook: Path, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "table.md").write_text("mine")
    done = run("bench", manifest, picturebook, "-o", tmp_path / "out", "--seeds", "1", "--steps", "1")
    assert done.code == 2 and "table.md already exists and no bench wrote it; choose another folder" in done.err
    assert (tmp_path / "out" / "table.md").read_text() == "mine"
    done = run("bench", manifest, picturebook, "-o", tmp_path / "out" / "table.md")
    assert done.code == 2 and "table.md is a file; choose a folder" in done.err


def test_a_table_that_would_be_replaced_by_a_manifest_of_its_own(run: Run, tmp_path: Path) -> None:
    tests = ",".join(f"a CEO in scene {i}" for i in timed.TESTS)
    rows = f"{','.join(timed.COLUMNS['gender'])}\na CEO,a female CEO,A photo of a CEO,{tests}\n"
    table = tmp_path / "001-a-female-ceo.toml"
    table.write_text(rows)
    done = run("import", "gender", table, "-o", tmp_path, "--force")
    assert done.code == 2 and "toml is an input of this command" in done.err and table.read_text() == rows
    assert run("import", "gender", table, "-o", tmp_path / "out").code == 0
    done = run("import", "gender", table, "-o", table)
    assert done.code == 2 and "toml is a file; choose a folder" in done.err


def test_a_manifest_that_changes_while_it_is_tuned_stays(
    run: Run, picturebook: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from timecli.measuring import tune
    from timecli.measuring.tune import Trial

    path = tmp_path / "x.toml"
    path.write_text(
        MANIFEST + 'positives = [{ prompt = "A field of roses", destination = "A field of blue roses" }]\n'
        'negatives = [{ prompt = "A tulip", destination = "A blue tulip" }]\n'
    )

    def harmonic(*_: object) -> Trial:
        path.write_text(path.read_text() + "# a later thought\n")
        return Trial(3.0, 0.5)

    monkeypatch.setattr(tune, "harmonic", harmonic)
    done = run("tune", path, picturebook, "--in-place")
    assert done.code == 2 and "x.toml changed meanwhile and stays; put strength = 3 into it yourself" in done.err
    assert path.read_text().endswith("# a later thought\n")


def test_a_models_yaml_is_named_or_brought_along(run: Run, manifest: Path, small: Path, tmp_path: Path) -> None:
    """A1111 and Forge read from it that a model predicts v."""
    little = "[solve]\nstrength = 0.1\n"  # random weights hardly tell a rose from everything else
    manifest.write_text(f"{MANIFEST}{little}")
    model = shutil.copy(small, tmp_path / "v2.1-768.safetensors")
    without = run("edit", manifest, model, "-o", tmp_path / "plain.safetensors", "--with-config")
    assert without.code == 2 and "has no .yaml with its name in its folder; leave out --with-config" in without.err
    yaml, target = tmp_path / "v2.1-768.yaml", tmp_path / "out.yaml"
    yaml.write_text("model:\n  params:\n    parameterization: v\n")
    done = run("edit", manifest, model, "-o", tmp_path / "out.safetensors")
    sentence = f"{yaml} says how UIs sample the model; copy it as {target}, or use --with-config."
    assert done.code == 0 and done.err == f"timecli: warning: {sentence}\n" and not target.exists()
    target.write_text("mine")
    command = ("edit", manifest, model, "-o", tmp_path / "out.safetensors")
    (tmp_path / "out.safetensors").unlink()
    done = run(*command, "--with-config")
    assert done.code == 2 and "out.yaml already exists; use --force" in done.err and target.read_text() == "mine"
    assert not (tmp_path / "out.safetensors").exists()
    assert run(*command).err == "", "it has one already"
    done = run(*command, "--with-config", "--force")
    assert done.code == 0 and target.read_text() == yaml.read_text() and f"wrote {target}" in done.out
    assert run("edit", manifest, model, "--delta", tmp_path / "x.delta").err == "", "a delta needs none"
    done = run("apply", tmp_path / "x.delta", model, "-o", tmp_path / "two.safetensors", "--with-config")
    assert done.code == 0 and (tmp_path / "two.yaml").read_text() == yaml.read_text()
    done = run("apply", tmp_path / "x.delta", model, "-o", tmp_path / "three.safetensors")
    assert done.err.startswith(f"timecli: warning: {yaml} says")
    done = run("edit", manifest, model, "--in-place", "--with-config")
    assert done.code == 0 and done.err == "" and yaml.read_text() == target.read_text()


@pytest.fixture
def cache(folder: Path, tmp_path: Path) -> Path:
    """A model in the hub's cache: two snapshots, whose files are links to blobs with the names of their hashes."""
    home = tmp_path / "hub" / "models--painter--roses"
    (home / "blobs").mkdir(parents=True)
    (home / "refs").mkdir()
    for number in range(2):
        snapshot = home / "snapshots" / (f"{number}" * 40)
        for file in [file for file in folder.rglob("*") if file.is_file() and file.suffix in (".json", ".safetensors")]:
            content = file.read_bytes()
            blob = home / "blobs" / hashlib.sha256(content).hexdigest()
            blob.write_bytes(content)
            link = snapshot / file.relative_to(folder)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(os.path.relpath(blob, link.parent))
    (home / "refs" / "main").write_text("0" * 40)
    return home


def test_what_is_kept_under_its_hash_is_not_edited_in_place(
    run: Run, manifest: Path, cache: Path, tmp_path: Path
) -> None:
    """Other snapshots have the same blob, and its name would be the hash of something else."""
    snapshot, out = cache / "snapshots" / ("0" * 40), tmp_path / "out"
    assert run("edit", manifest, snapshot, "-o", out, "--delta", tmp_path / "d").code == 0
    for command in (("edit", manifest), ("apply", tmp_path / "d")):
        done = run(*command, snapshot, "--in-place")
        assert done.code == 2 and "called by the hash of its content" in done.err and "-o" in done.err, done.err
    single = tmp_path / "linked.safetensors"
    single.symlink_to(snapshot / UNET)
    other = tmp_path / "other.safetensors"
    (cache / "blobs" / ("c" * 64)).write_text("of another model")
    other.symlink_to(cache / "blobs" / ("c" * 64))
    before = marks(cache)
    for command in (
        ("edit", manifest, single, "--config", snapshot, "--text-encoder", snapshot / "text_encoder", "--in-place"),
        ("edit", manifest, snapshot, "--delta", other, "--force"),
        ("export", tmp_path / "d", snapshot, "-o", other, "--force"),
        ("everyday", snapshot, "-o", other, "--force"),
    ):
        done = run(*command)
        assert done.code == 2 and "called by the hash of its content" in done.err, done.err
    assert marks(cache) == before
    assert len(open_checkpoint(out).edits) == 1, "the way out"


@pytest.mark.parametrize("name", ["sha256-" + "a" * 64, "b" * 40])
def test_other_stores_are_no_place_either(name: str, run: Run, manifest: Path, small: Path, tmp_path: Path) -> None:
    """Ollama's blobs, and the objects of git."""
    shutil.copy(small, tmp_path / name)
    done = run("edit", manifest, tmp_path / name, "--in-place")
    assert done.code == 2 and "called by the hash of its content" in done.err
    shutil.copy(small, tmp_path / "own")
    assert run("edit", manifest, tmp_path / "own", "--in-place").code == 0, "the control"


def test_a_read_only_model_is_not_edited_in_place(run: Run, manifest: Path, small: Path, tmp_path: Path) -> None:
    """As git-annex and DVC keep what they track."""
    shutil.copy(small, tmp_path / "object")
    (tmp_path / "object").chmod(0o444)
    (tmp_path / "link.safetensors").symlink_to("object")
    for path in (tmp_path / "link.safetensors", tmp_path / "object"):
        done = run("edit", manifest, path, "--in-place")
        assert done.code == 2 and "is read-only" in done.err and "-o" in done.err
    assert (tmp_path / "object").read_bytes() == small.read_bytes()


@pytest.mark.parametrize("place", ["", "snapshots"])
def test_the_snapshot_in_a_folder_of_the_hubs_cache_is_named(
    place: str, run: Run, manifest: Path, cache: Path, small: Path
) -> None:
    meant = cache / "snapshots" / ("0" * 40)
    for command in (
        ("plan", manifest, cache / place), ("inspect", cache / place),
        ("plan", manifest, small, "--config", cache / place),
        ("plan", manifest, small, "--text-encoder", cache / place),
        ("verify", manifest, small, "--judge", cache / place),
    ):  # fmt: skip
        done = run(*command)
        assert done.code == 2 and f"give the snapshot in it, {meant}" in done.err, done.err
    (cache / "refs" / "main").unlink()
    assert f"{'1' * 40}" in run("inspect", cache / place).err
    assert run("inspect", meant).code == 0, "the way out"
