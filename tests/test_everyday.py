"""The everyday world is preserved as if its prompts were written out one by one; a cache changes no byte."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from timecli.commands.groups import Reading
from timecli.commands.shared import everyday_worlds
from timecli.editing import compiling
from timecli.editing.delta import load_delta
from timecli.editing.solve import apply, solve
from timecli.errors import CheckpointError, ManifestError
from timecli.manifests.manifest import Manifest, parse
from timecli.models.checkpoint import Checkpoint, open_checkpoint
from timecli.text import encoding, everyday, pairing, worlds
from timecli.text.readers import TextEncoder

from .conftest import ROSES, Run

CPU = torch.device("cpu")
ROSE = 'name = "x"\n[[edit]]\nsource = "A rose"\ndestination = "A blue rose"\n'
LIST = "# things\nA dog\n\nA  tulip\nA dog\nA house in the snow\n"


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    (tmp_path / "list.txt").write_text(LIST)
    return tmp_path / "list.txt"


def task(listed: Path | None = None, more: str = "", solving: str = "") -> Manifest:
    preserve = f"[preserve]\neveryday = {json.dumps(str(listed))}\n" if listed else "[preserve]\n"
    return parse(ROSE + solving + preserve + more)


def test_the_solve_is_least_squares_with_every_everyday_prompt_written_out(
    model: Checkpoint, encoder: TextEncoder, listed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The normal equations: rows of the edit with 1/λ, of every everyday position with ρ / n, and the identity."""
    monkeypatch.setattr(everyday, "POSITIONS", 77)
    wanted = task(listed, "everyday_weight = 0.5\n", "[solve]\nlambda = 0.2\n")
    (rows, world) = list(pairing.columns(wanted, encoder, everyday.measured(wanted, encoder)))
    prompts = ("A dog", "A tulip", "A house in the snow", "")
    states = torch.cat(list(encoder.embed(prompts)))
    rho = 0.5 * len(wanted.templates + ("",)) / 0.2
    assert torch.allclose(world.weight, torch.full_like(world.weight, rho), rtol=1e-12)
    source, change = rows.source, rows.destination - rows.source
    system = (source.T * rows.weight) @ source + torch.eye(192, dtype=torch.float64)
    whole = system + rho / len(prompts) * states.T @ states
    expected = torch.linalg.solve(whole, source.T @ (rows.weight[:, None] * change)).T
    delta = compiling.compile_edit(wanted, model, encoder, CPU)
    made = delta.operator.left.double() @ delta.operator.right.double() / delta.origin.factors[0]
    assert (made - expected).norm() / expected.norm() < 1e-5
    without = torch.linalg.solve(system, source.T @ (rows.weight[:, None] * change)).T
    assert (made - without).norm() / without.norm() > 0.3, "the control"


def test_with_every_position_it_is_exact(encoder: TextEncoder, listed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(everyday, "POSITIONS", 77)
    wanted = task(listed)
    root = everyday.measured(wanted, encoder).roots["text"]
    states = torch.cat(list(encoder.embed(("A dog", "A tulip", "A house in the snow", ""))))
    assert torch.allclose(root.T @ root, states.T @ states / 4, rtol=1e-10, atol=1e-10)


def test_at_its_minimum_the_gradient_is_zero_and_not_at_the_papers(encoder: TextEncoder, listed: Path) -> None:
    """Eq. 4 with the everyday term: Σ w ‖W'c − W c*‖² + ‖W' − W‖² + ρ ‖(W' − W) Rᵀ‖²."""
    wanted = task(listed)
    blocks = list(pairing.columns(wanted, encoder, everyday.measured(wanted, encoder)))
    source, goal, weight, _ = (torch.cat(part) for part in zip(*blocks, strict=True))
    matrix = torch.randn(8, 192, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def gradient(edited: torch.Tensor) -> float:
        off = edited @ source.T - matrix @ goal.T
        return float(((off * weight) @ source + edited - matrix).norm())

    there = gradient(apply(matrix, solve(blocks)))
    elsewhere = gradient(apply(matrix, solve(blocks[:1])))
    assert there < 1e-5 * elsewhere


def test_false_is_the_papers_and_a_weight_of_nearly_nothing_as_well(
    model: Checkpoint, encoder: TextEncoder, listed: Path
) -> None:
    paper = compiling.compile_edit(parse(ROSE + "[preserve]\neveryday = false\n"), model, encoder, CPU)
    world = everyday.measured(task(listed), encoder)
    ignored = compiling.compile_edit(parse(ROSE + "[preserve]\neveryday = false\n"), model, encoder, CPU, world)
    assert torch.equal(paper.operator.left, ignored.operator.left) and paper.origin.everyday == ""
    nothing = compiling.compile_edit(parse(ROSE + "[preserve]\neveryday_weight = 0\n"), model, encoder, CPU, world)
    assert torch.equal(paper.operator.left, nothing.operator.left) and nothing.origin.everyday == ""
    assert torch.equal(paper.operator.right, nothing.operator.right)
    light = task(listed, "everyday_weight = 1e-12\n", "[solve]\naugment = true\n")
    near = compiling.compile_edit(light, model, encoder, CPU, world)
    one, other = (delta.operator.left.double() @ delta.operator.right.double() for delta in (paper, near))
    other /= near.origin.factors[0]
    assert (one - other).norm() / one.norm() < 1e-5


def test_neighbours_stay(model: Checkpoint, encoder: TextEncoder) -> None:
    """The default list does what it is for: a neighbour moves less than half as far, the source nearly as far."""
    ours, paper = (
        compiling.compile_edit(parse(ROSE + more), model, encoder, CPU).operator
        for more in ("", "[preserve]\neveryday = false\n")
    )
    tulip, rose = encoder.embed(["A tulip", "A rose"])
    assert ours.shift(tulip).norm() < 0.5 * paper.shift(tulip).norm()
    assert ours.shift(rose).norm() > 0.8 * paper.shift(rose).norm()


def test_strength_scales_the_target(model: Checkpoint, encoder: TextEncoder) -> None:
    one, half, double = (
        compiling.compile_edit(parse(ROSE + more), model, encoder, CPU).operator
        for more in ("", "[solve]\nstrength = 0.5\n", "strength = 2\n")
    )
    whole = one.left.double() @ one.right.double()
    for factor, found in ((0.5, half), (2.0, double)):
        assert torch.allclose(found.left.double() @ found.right.double(), factor * whole, atol=1e-5)


def test_a_joint_edit_does_not_depend_on_the_order(model: Checkpoint, encoder: TextEncoder) -> None:
    pairs = [
        f'[[edit]]\nsource = "A {noun}"\ndestination = "A {colour} {noun}"\nstrength = {strength}\n'
        for noun, colour, strength in (("rose", "blue", 0.7), ("car", "green", 1.3), ("hat", "white", 1))
    ]
    made = [
        compiling.compile_edit(parse('name = "x"\n' + "".join(order)), model, encoder, CPU).operator
        for order in (pairs, pairs[::-1])
    ]
    one, other = (operator.left.double() @ operator.right.double() for operator in made)
    assert (one - other).norm() / one.norm() < 1e-5


def test_the_list_is_the_manifests_else_the_models_else_ours(encoder: TextEncoder, small: Path, listed: Path) -> None:
    assert everyday.prompts(task(listed), encoder) == ("A dog", "A tulip", "A house in the snow", "")
    assert "A froglet" in everyday.prompts(task(), encoder), "picturebook brings its own"
    other = encoding.read_text_encoder(open_checkpoint(small), None, CPU)
    ours = everyday.prompts(task(), other)
    assert ours == everyday.shipped() and 400 < len(ours) == len(set(ours)) and ours[-1] == ""
    assert max(len(other.tokens(prompt)) for prompt in ours) <= everyday.POSITIONS
    for name, content, sentence in (("none.txt", None, "No such file"), ("empty.txt", "# no\n", "has no prompt")):
        if content is not None:
            listed.with_name(name).write_text(content)
        with pytest.raises(ManifestError, match=sentence):
            everyday.prompts(task(listed.with_name(name)), encoder)


OTHERS = (".git/config", "id_rsa", "link.txt", "deep/link.txt", "dots.txt/../id_rsa", "no\0.txt")


@pytest.mark.parametrize("name", OTHERS)
def test_a_manifest_has_nothing_read_but_lists(name: str, run: Run, picturebook: Path, tmp_path: Path) -> None:
    """Whoever writes a manifest of a pull request reads what `plan` says of it, and of the prompts that it moves."""
    for folder in (".git", "deep", "dots.txt"):
        (tmp_path / folder).mkdir()
    for secret in (".git/config", "id_rsa"):
        (tmp_path / secret).write_text("A secret tulip\n")
    (tmp_path / "link.txt").symlink_to("id_rsa")
    (tmp_path / "deep" / "link.txt").symlink_to("../link.txt")
    (tmp_path / "x.toml").write_text(f"{ROSE}[preserve]\neveryday = {json.dumps(name)}\n")
    done = run("plan", tmp_path / "x.toml", picturebook, "--no-cache")
    assert done.code == 2 and done.err.count("\n") == 1 and "secret" not in done.err + done.out
    assert ("null byte" if "\0" in name else "is no list of everyday prompts") in done.err, done.err


def test_a_link_to_a_list_is_one(run: Run, picturebook: Path, tmp_path: Path) -> None:
    (tmp_path / "world.txt").write_text("A secret tulip\n")
    (tmp_path / "link").symlink_to("world.txt")
    (tmp_path / "x.toml").write_text(f'{ROSE}[preserve]\neveryday = "link"\n')
    done = run("plan", tmp_path / "x.toml", picturebook, "--no-cache")
    assert done.code == 0 and "A secret tulip" in done.out, "the control: prompts that move are shown"


def test_with_and_without_the_cache_the_bytes_are_the_same(run: Run, picturebook: Path, tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text(ROSE)
    for name, more in (("a", ["--no-cache"]), ("b", []), ("c", [])):
        assert run("edit", tmp_path / "x.toml", picturebook, "--delta", tmp_path / name, *more).code == 0
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() == (tmp_path / "c").read_bytes()
    assert run("everyday", picturebook, "-o", tmp_path / "world").code == 0
    given = ("--everyday", tmp_path / "world", "--no-cache")
    assert run("edit", tmp_path / "x.toml", picturebook, "--delta", tmp_path / "d", *given).code == 0
    assert (tmp_path / "a").read_bytes() == (tmp_path / "d").read_bytes()
    origin = load_delta(tmp_path / "a").origin
    assert len(origin.everyday) == 64 and origin.everyday_weight == 3 and origin.strengths == (1.0,)


def test_two_runs_that_begin_together_fill_one_cache(picturebook: Path, forked: list[str], tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text(ROSE)
    command = [*forked, "edit", tmp_path / "x.toml", picturebook, "--quiet", "--delta"]
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    runs = [subprocess.Popen([*command, tmp_path / name], env=environment) for name in ("a", "b")]
    assert [run.wait() for run in runs] == [0, 0]
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert len(list((tmp_path / "cache" / "timecli").iterdir())) == 1, "and nothing beside it"


def test_a_manifest_that_preserves_none_takes_it_from_no_other(encoder: TextEncoder, listed: Path) -> None:
    """One memo serves many manifests, in any order."""
    none, some = task(listed, "everyday_weight = 0\n"), task(listed)
    for order in ((none, some), (some, none)):
        worlds = everyday_worlds(encoder, Reading(no_cache=True))
        assert {one is some: worlds(one) is not None for one in order} == {True: True, False: False}


def test_a_damaged_or_foreign_cache_is_made_anew(encoder: TextEncoder, listed: Path, tmp_path: Path) -> None:
    counted: list[int] = []
    folder, wanted = tmp_path / "cache", task(listed)
    made = worlds.kept(wanted, encoder, folder, counted.append)
    (file,) = folder.iterdir()
    assert (
        torch.equal(worlds.kept(wanted, encoder, folder, counted.append).roots["text"], made.roots["text"])
        and sum(counted) == 4
    )
    whole = file.read_bytes()
    flipped = bytes([whole[-5000] ^ 1])
    worlds.save(replace(made, about={**made.about, "encoder": "0" * 64}), tmp_path / "foreign")
    for damage in (
        (tmp_path / "foreign").read_bytes(),
        *(b"", b"x" * 1000, whole[:-8], whole.replace(b"A dog", b"A cat")),
        whole[:-5000] + flipped + whole[-4999:],
    ):
        assert damage != whole
        file.write_bytes(damage)
        before = sum(counted)
        again = worlds.kept(wanted, encoder, folder, counted.append)
        assert torch.equal(again.roots["text"], made.roots["text"])
        assert sum(counted) == before + 4
    folder.chmod(0o500)
    assert torch.equal(worlds.kept(task(listed, "weight = 2.0\n"), encoder, folder).roots["text"], made.roots["text"])
    folder.chmod(0o700)


def test_each_kind_of_device_has_its_own_cache(encoder: TextEncoder, listed: Path, tmp_path: Path) -> None:
    """Their last digits differ, and an edit would have other bytes than without it."""
    folder, counted = tmp_path / "cache", list[int]()
    for kind in ("cpu", "cuda", "cpu", "cuda"):
        worlds.kept(task(listed), replace(encoder, device=torch.device(kind)), folder, counted.append)
    assert sum(counted) == 2 * 4 and len(list(folder.iterdir())) == 2


def test_a_cache_does_not_grow_for_ever(
    encoder: TextEncoder, listed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was used longest ago goes; foreign files stay."""
    folder, made = tmp_path / "cache", list[Path]()
    folder.mkdir(mode=0o700)
    (folder / "mine").write_bytes(bytes(10**6))
    for time, kind in enumerate(("cpu", "cuda", "mps", "xpu")):
        worlds.kept(task(listed), replace(encoder, device=torch.device(kind)), folder)
        (new,) = {*folder.glob("everyday-*")} - {*made}
        os.utime(new, (time + 1, time + 1))
        made.append(new)
        monkeypatch.setattr(worlds, "MOST", 2.5 * new.stat().st_size)
        left = [file for file in made if file.exists()]
        assert left == made[-2:], time
    assert (folder / "mine").exists()


def test_a_file_for_another_encoder_or_of_another_kind_is_refused(
    run: Run, picturebook: Path, small: Path, tmp_path: Path
) -> None:
    assert run("everyday", small, "-o", tmp_path / "world").code == 0
    (tmp_path / "x.toml").write_text(ROSE)
    for path, sentence in ((tmp_path / "world", "for another text encoder"), (picturebook, "no file of everyday")):
        done = run("edit", tmp_path / "x.toml", picturebook, "--delta", tmp_path / "d", "--everyday", path)
        assert done.code == 2 and sentence in done.err and not (tmp_path / "d").exists(), done.err
    with pytest.raises(CheckpointError):
        worlds.load(ROSES)


def test_a_root_that_has_less_than_its_prompts_is_refused(
    run: Run, encoder: TextEncoder, picturebook: Path, listed: Path, tmp_path: Path
) -> None:
    """Also where its checksum is right: of zeros, everything would seem to be preserved."""
    made, path = everyday.measured(task(listed), encoder), tmp_path / "world"
    root, ends = made.roots["text"], made.ends["text"]
    (tmp_path / "x.toml").write_text(ROSE)
    given = ("edit", tmp_path / "x.toml", picturebook, "--everyday", path, "-o", tmp_path / "out.safetensors")
    for wrong, its in (
        (torch.zeros_like(root), ends),
        (root * 0.01, ends),
        (root[:1], ends),
        (root[:0], ends),
        (torch.where(torch.arange(root.shape[1]) < root.shape[1] // 2, 0.0, root), ends),
        (root, torch.zeros_like(ends)),
        (root, ends.clone().index_fill_(0, torch.tensor([1]), 0)),
        (torch.zeros_like(root), torch.zeros_like(ends)),
    ):
        worlds.save(replace(made, roots={"text": wrong}, ends={"text": its}), path)
        done = run(*given)
        assert done.code == 2 and "is no file of everyday prompts" in done.err and done.err.count("\n") == 1, (
            wrong,
            its,
        )
    worlds.save(made, path)
    assert run(*given).code == 0, "the control"


@pytest.mark.parametrize(
    ("tokens", "clip_skip", "what"), [("prompt", 1, "solve.tokens"), ("all", 2, "clip_skip"), ("all", 1, "")]
)
def test_a_file_for_other_tokens_or_another_layer_is_refused(
    tokens: str, clip_skip: int, what: str, run: Run, picturebook: Path, tmp_path: Path
) -> None:
    (tmp_path / "list.txt").write_text(LIST)
    (tmp_path / "x.toml").write_text(ROSE)
    written = ("--list", tmp_path / "list.txt", "--tokens", tokens, "--clip-skip", clip_skip, "-o", tmp_path / "world")
    assert run("everyday", picturebook, *written).code == 0
    done = run("edit", tmp_path / "x.toml", picturebook, "--delta", tmp_path / "d", "--everyday", tmp_path / "world")
    assert (done.code == 0) == (tmp_path / "d").exists() == (not what), done.err
    assert not what or (done.code == 2 and f"was made for another {what}; make it anew" in done.err)
