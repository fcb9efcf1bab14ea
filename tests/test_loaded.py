"""A network and a text encoder that another program holds: states and tokens in, the operator out."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import timecli
from timecli.editing.delta import load_delta, save_delta
from timecli.errors import CheckpointError
from timecli.manifests.manifest import Manifest, parse
from timecli.models import layouts
from timecli.models.maps import Maps
from timecli.models.streams import LDM, POOLED, TEXT
from timecli.shipping import export
from timecli.text.segments import Segment, Segmented

CPU = torch.device("cpu")
PREFIX = "model.diffusion_model."
ROSES = 'name = "x"\n[[edit]]\nsource = "a rose"\ndestination = "a blue rose"\nstrength = 0.5\n'


@dataclass(frozen=True, kw_only=True)
class Words(Segmented):
    """A text encoder of no library: every word has a state, which leans on those before it."""

    @property
    def width(self) -> int:
        return 24

    @property
    def pooled_width(self) -> int:
        return 0

    def pieces(self, word: str) -> list[str]:
        return word.lower().split()

    def tokens(self, prompt: str) -> list[int]:
        return [sum(word.encode()) for word in self.pieces(prompt)]

    def segments(self, prompt: str) -> tuple[Segment, ...]:
        words = self.pieces(prompt)
        return (Segment((*words, "end", *["pad"] * (11 - len(words))), 0, len(words) + 1),)

    def encode(self, prompts: Sequence[str], positions: int | None = None) -> list[dict[str, torch.Tensor]]:
        found = []
        for prompt in prompts:
            (segment,) = self.segments(prompt)
            seeds = [sum(word.encode()) for word in segment.tokens]
            own = [torch.randn(24, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
            found.append({TEXT: torch.stack(own).cumsum(0) / torch.arange(1, len(own) + 1)[:, None]})
        return found


def held(weights: dict[str, torch.Tensor]) -> Maps:
    return timecli.loaded_maps(weights, {name: tensor.shape for name, tensor in weights.items()}, "the model")


def random(width: int) -> dict[str, torch.Tensor]:
    one = torch.Generator().manual_seed(3)
    return {matrix.names[LDM]: torch.randn(8, width, generator=one) for matrix in layouts.SD1.matrices}


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    (tmp_path / "few.txt").write_text("a dog\na dog in the snow\na tall dog\n")
    text = ROSES + '[preserve]\neveryday = "few.txt"\n'
    return replace(parse(text), folder=tmp_path)


def test_an_encoder_of_no_checkpoint_is_compiled_to_its_strength(manifest: Manifest, tmp_path: Path) -> None:
    model = timecli.Loaded(held(random(24)), Words(fingerprints=("f",), states_of="a game"), CPU)
    world = timecli.everyday_world(manifest, model, tmp_path / "cache")
    delta = timecli.compile(manifest, model, world)
    assert timecli.plan(manifest, model, delta, world).forecasts[0].share == pytest.approx(0.5, abs=1e-6)
    whole = timecli.compile(replace(manifest, edits=(replace(manifest.edits[0], strength=1.0),)), model, world)
    assert timecli.plan(manifest, model, whole, world).forecasts[0].share == pytest.approx(1, abs=1e-6), "the control"
    save_delta(delta, tmp_path / "d")
    assert load_delta(tmp_path / "d").origin.states_of == "a game"


def test_maps_in_memory_are_those_of_the_file(picturebook: Path, manifest: Manifest) -> None:
    model = timecli.open_model(picturebook)
    weights = {name.removeprefix(PREFIX): t for name, t in load_file(picturebook).items() if name.startswith(PREFIX)}
    one = timecli.compile(manifest, timecli.Loaded(held(weights), model.encoder, CPU))
    other = timecli.compile(manifest, model)
    assert torch.equal(one.operator.left, other.operator.left) and one.origin == other.origin
    bent = held({name: t * (1 + torch.arange(t.shape[-1]) % 3) for name, t in weights.items() if "attn2" in name})
    third = timecli.compile(manifest, timecli.Loaded(bent, model.encoder, CPU))
    assert not torch.equal(third.operator.left, other.operator.left), "the control: the maps say how far a prompt goes"


def test_every_map_is_read_once_and_its_shape_without_reading(manifest: Manifest) -> None:
    read: list[str] = []

    class Counted(dict[str, torch.Tensor]):
        def __getitem__(self, name: str) -> torch.Tensor:
            read.append(name)
            return super().__getitem__(name)

    weights = Counted(random(24))
    model = timecli.Loaded(held(weights), Words(fingerprints=("f",)), CPU)
    delta = timecli.compile(manifest, model)
    timecli.plan(manifest, model, delta)
    assert sorted(read) == sorted(weights)
    assert export.fitting(model.checkpoint, delta, torch.float16) > 0 and len(read) == len(weights)


def test_maps_of_another_width_or_of_no_model_are_refused(manifest: Manifest) -> None:
    encoder = Words(fingerprints=("f",))
    with pytest.raises(CheckpointError, match=r"the model: input_blocks.1.1.*\[8, 32\] and .* width is 24"):
        timecli.compile(manifest, timecli.Loaded(held(random(32)), encoder, CPU))
    with pytest.raises(CheckpointError, match="the model has no map that reads text"):
        held({"weight": torch.zeros(2, 2)})
    timecli.compile(manifest, timecli.Loaded(held(random(24)), encoder, CPU))


def test_the_pooled_vector_of_a_network_is_among_its_maps() -> None:
    shapes = {matrix.names[LDM]: (8, 24) for matrix in layouts.FLUX1.matrices} | {layouts.FLUX1.marks[LDM]: (1, 1)}
    maps = timecli.loaded_maps({name: torch.zeros(shape) for name, shape in shapes.items()}, shapes, "the model")
    assert [spot.matrix.stream for spot, _ in maps.projections()] == [TEXT, POOLED]
    assert [spot.matrix.stream for spot, _ in maps.projections(streams=(TEXT,))] == [TEXT]


def test_this_way_needs_none_of_the_command_line_s_libraries() -> None:
    heavy = ["diffusers", "transformers", "typer", "inflect", "rich", "jinja2", "tomlkit"]
    blocked = f"import sys\nsys.modules.update(dict.fromkeys({heavy}))\n"
    code = (
        "from tests.test_loaded import *\nmodel = timecli.Loaded(held(random(24)), Words(fingerprints=('f',)), CPU)\n"
    )
    code += "few = parse(ROSES + '[preserve]\\neveryday = false')\nd = timecli.compile(few, model)\n"
    code += "print(d.operator.rank, len(timecli.plan(few, model, d).forecasts))"
    done = subprocess.run([sys.executable, "-c", blocked + code], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.split()[-1] == "1", done.stderr
    control = subprocess.run(
        [sys.executable, "-c", blocked + "import timecli.cli; timecli.cli.main([])"], capture_output=True
    )
    assert control.returncode != 0, "the control"
