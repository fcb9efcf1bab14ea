"""The metrics count what the paper counts; rendering is repeatable and leaves the model as it was."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageColor

import timecli
from timecli.commands.groups import Drawing
from timecli.commands.shared import stated
from timecli.drawing import numbers, render, report, verify
from timecli.drawing.edited import edited_matrices
from timecli.drawing.judge import Judge, load_judge
from timecli.drawing.render import Settings, settings
from timecli.drawing.verify import Ask, Score, mean, measure, missed
from timecli.editing import compiling, forecast
from timecli.errors import CheckpointError, ManifestError
from timecli.manifests.manifest import load, parse
from timecli.manifests.rows import Row, rows
from timecli.models import layouts, streams
from timecli.models.checkpoint import open_checkpoint
from timecli.text import encoding

from .conftest import PICTUREBOOK, ROSES

CPU = torch.device("cpu")
TABLE = [
    Row("source", "rose", "blue rose"),
    Row("positive", "roses", "blue roses"),
    Row("negative", "poppy", "blue poppy"),
    Row("negative", "tulip", "blue tulip"),
    Row("sample", "rose in snow", None),
]


def pictures(shown: dict[str, list[str]]) -> dict[str, list[Image.Image]]:
    """Stand-ins that carry in `info` what they show."""

    def picture(text: str) -> Image.Image:
        image = Image.new("RGB", (8, 8))
        image.info["shows"] = text
        return image

    return {prompt: [picture(text) for text in texts] for prompt, texts in shown.items()}


def reads_info(images: dict[str, list[Image.Image]]) -> Ask:
    return lambda prompt, texts: [texts.index(image.info["shows"]) for image in images[prompt]]


def test_metrics_by_hand() -> None:
    before = pictures(
        {
            "rose": ["rose", "rose"], "blue rose": ["blue rose", "rose"], "roses": ["roses", "blue roses"],
            "blue roses": ["blue roses"] * 2, "poppy": ["poppy"] * 2, "tulip": ["tulip", "blue tulip"],
        }
    )  # fmt: skip
    # The oracle is drawn from the destination prompt and judged between source and destination.
    before["blue rose"] = pictures({"x": ["blue rose", "rose"]})["x"]
    after = pictures(
        {
            "rose": ["blue rose"] * 2,
            "roses": ["blue roses", "roses"],
            "poppy": ["poppy", "blue poppy"],
            "tulip": ["tulip"] * 2,
        }
    )
    scores = measure(TABLE, reads_info(before), reads_info(after))
    assert scores["baseline"] == {
        "efficacy": Score((0, 0)),
        "generality": Score((0, 1)),
        "specificity": Score((1, 0.5)),
    }
    assert scores["oracle"] == {
        "efficacy": Score((1, 0)),
        "generality": Score((1, 1)),
        "specificity": Score((1, 0.5)),
    }
    assert scores["edited"] == {
        "efficacy": Score((1, 1)),
        "generality": Score((1, 0)),
        "specificity": Score((1, 0.5)),
    }
    assert mean(scores["edited"]) == pytest.approx(3 / (1 + 2 + 4 / 3))
    assert mean(scores["baseline"]) == 0


def test_explicit_prompts_keep_their_own_and_are_in_no_mean() -> None:
    """The oracle of an explicit prompt is the unedited model, given the prompt itself."""
    table = [TABLE[0], Row("explicit", "red rose", "blue rose")]
    before = pictures({"rose": ["rose"] * 2, "blue rose": ["blue rose"] * 2, "red rose": ["red rose"] * 2})
    after = pictures({"rose": ["blue rose"] * 2, "red rose": ["red rose", "blue rose"]})
    scores = measure(table, reads_info(before), reads_info(after))
    assert [scores[name]["explicit"] for name in scores] == [Score((1, 1)), Score((1, 1)), Score((1, 0))]
    assert mean(scores["edited"]) == 1, "the mean is of the paper's three"
    assert verify.prompts_before(table) == ["rose", "red rose", "blue rose"]


def test_thresholds() -> None:
    tests = 'positives = [{ prompt = "c", destination = "d" }]\n'
    demands = "[verify]\nefficacy = 0.9\ngenerality = 0.5\n"
    manifest = parse(f'name = "x"\n[[edit]]\nsource = "a"\ndestination = "b"\n{tests}{demands}')
    found = missed(manifest, {"efficacy": Score((0.85,)), "generality": Score((0.5,))})
    assert len(found) == 1 and "efficacy is 85.0%, below the 90.0% that x asks for" in found[0]


@pytest.fixture(scope="module")
def pipeline(picturebook: Path) -> render.Pipeline:
    checkpoint = open_checkpoint(picturebook)
    return render.load_pipeline(checkpoint, encoding.read_text_encoder(checkpoint, None, CPU), CPU)


def same(one: list[Image.Image], other: list[Image.Image]) -> bool:
    return all(np.array_equal(np.asarray(a), np.asarray(b)) for a, b in zip(one, other, strict=True))


def test_rendering_is_repeatable_and_seeds_differ(pipeline: render.Pipeline) -> None:
    ticks: list[float] = []
    settings = Settings((0, 1), steps=3)
    first = render.render(pipeline, ["A rose", "A dog"], settings, ticks.append)
    again = render.render(pipeline, ["A rose", "A dog"], settings, ticks.append)
    assert same(first["A rose"], again["A rose"]) and not same(first["A rose"], first["A dog"])
    assert not same(first["A rose"][:1], first["A rose"][1:])
    assert sum(ticks) == pytest.approx(8)


def test_an_edit_in_memory_is_undone(pipeline: render.Pipeline, picturebook: Path) -> None:
    checkpoint = open_checkpoint(picturebook)
    encoder = encoding.read_text_encoder(checkpoint, None, CPU)
    tensors = edited_matrices(compiling.compile_edit(load(ROSES), checkpoint, encoder, CPU), checkpoint, CPU)
    assert len(tensors) == 32
    before = {name: tensor.clone() for name, tensor in pipeline.unet.state_dict().items()}
    with render.replaced(pipeline.unet, tensors):
        changed = {name for name, tensor in pipeline.unet.state_dict().items() if not torch.equal(tensor, before[name])}
        assert changed == set(tensors)
    assert all(torch.equal(tensor, before[name]) for name, tensor in pipeline.unet.state_dict().items())


@pytest.fixture(scope="module")
def judge() -> Judge:
    return load_judge(PICTUREBOOK / "judge", CPU)


def drawn(thing: str, colour: str, count: int) -> list[Image.Image]:
    """As picturebook's world draws it."""
    import random
    import sys

    sys.path.insert(0, str(PICTUREBOOK))
    import world

    request = world.likely(world.Request(thing, colour=colour))
    return [world.draw(request, random.Random(seed)) for seed in range(count)]


def test_the_judge_tells_drawn_roses_apart(judge: Judge) -> None:
    assert sum(judge.choose(drawn("rose", "red", 8), ("A rose", "A blue rose"))) <= 1
    assert sum(judge.choose(drawn("rose", "blue", 8), ("A rose", "A blue rose"))) >= 7


def test_of_several_edits_the_best_misses_fewest_thresholds_whatever_the_mean(judge: Judge) -> None:
    """One edit makes every rose blue and a quarter of the poppies with them, the other half of the roses alone."""
    text = 'name = "x"\n[[edit]]\nsource = "A rose"\ndestination = "A blue rose"\n'
    text += 'negatives = [{ prompt = "A poppy", destination = "A blue poppy" }]\n[verify]\n'
    red, blue = ({f"A {one}": drawn(one, colour, 4) for one in ("rose", "poppy")} for colour in ("red", "blue"))
    before = {**red, "A blue rose": blue["A rose"]}
    far = {**blue, "A poppy": red["A poppy"][:3] + blue["A poppy"][3:]}
    near = {**red, "A rose": red["A rose"][:2] + blue["A rose"][2:]}
    after = {"far": far, "near": near}
    none = dict.fromkeys(after, [None, None])

    def best(thresholds: str) -> tuple[str, list[str]]:
        manifest = parse(text + thresholds)
        result = numbers.found(manifest, rows(manifest), judge, before, after, none)
        means = {name: result["scores"][name]["harmonic_mean"] for name in after}
        assert means["far"] > means["near"] + 0.01, means
        return result["best"], result["missed"]

    assert best("efficacy = 0.3\n") == ("far", []), "of those that miss as many, that with the best mean"
    assert best("efficacy = 0.3\nspecificity = 0.8\n") == ("near", [])
    name, missed = best("efficacy = 0.9\nspecificity = 0.8\n")
    assert name == "far" and len(missed) == 1 and missed[0].startswith("specificity is 75.0%")


def test_what_is_no_judge_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="has no config.json"):
        load_judge(tmp_path, CPU)


def test_a_full_size_file_takes_the_packaged_configs() -> None:
    """Their UNet has exactly SD 1.x's matrices, their text encoder CLIP's vocabulary."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig

    folder = Path(timecli.__file__).parent / "data" / "sd1"
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(folder / "unet"))
        vae = AutoencoderKL.from_config(AutoencoderKL.load_config(folder / "vae"))
    shapes = {name: tuple(tensor.shape) for name, tensor in unet.state_dict().items()}
    assert layouts.find(shapes, "x") == (layouts.SD1, "", streams.DIFFUSERS)
    assert (sum(p.numel() for p in unet.parameters()), sum(p.numel() for p in vae.parameters())) == (
        859520964,
        83653863,
    )
    text = CLIPTextConfig.from_pretrained(folder / "text_encoder")
    assert (text.vocab_size, text.hidden_size, text.num_attention_heads) == (49408, 768, 12)


def test_the_oracle_is_asked_only_where_the_destination_is_wanted() -> None:
    assert verify.prompts_before(TABLE) == [
        "rose",
        "roses",
        "poppy",
        "tulip",
        "rose in snow",
        "blue rose",
        "blue roses",
    ]
    assert verify.prompts_after(TABLE) == ["rose", "roses", "poppy", "tulip", "rose in snow"]


def test_the_sheet_shows_every_row() -> None:
    shown = {text: [Image.new("RGB", (64, 64), "red")] * 3 for text in verify.prompts_before(TABLE)}
    after = {text: [Image.new("RGB", (64, 64), "blue")] * 3 for text in verify.prompts_after(TABLE)}
    small = report.sheet(TABLE[:1], report.columns(shown, {"after": after}), "title")
    full = report.sheet(TABLE, report.columns(shown, {"after": after}), "title")
    assert full.height - small.height == 4 * (report.CELL + 4)
    for i, row in enumerate(TABLE):
        y = 2 * report.HEAD + i * (report.CELL + 4) + report.CELL // 2
        columns = [report.LABEL + j * (3 * report.CELL + report.GAP) + report.CELL // 2 for j in range(3)]
        expected = [(255, 0, 0), (0, 0, 255), (255, 0, 0) if row.oracle else (255, 255, 255)]
        assert [full.getpixel((x, y)) for x in columns] == expected
        assert full.getpixel((2, y)) == ImageColor.getrgb(report.INK[row.kind])
    assert (
        ImageColor.getrgb(report.INK["positive"])[1] > 100 and len(set(ImageColor.getrgb(report.INK["negative"]))) == 1
    )


def test_the_manifest_says_how_its_thresholds_are_measured_and_options_win() -> None:
    tasks = []
    for name, lines in (("a", "steps = 4\nguidance = 0\n"), ("b", "steps = 8\nguidance = 0\n"), ("c", "")):
        text = f'name = "{name}"\n[[edit]]\nsource = "x"\ndestination = "y"\n[verify]\n{lines}'
        tasks.append(parse(text))
    first, second, silent = tasks
    assert stated(Drawing(), [first]) == (4, 0.0), "guidance 0 is a value, too"
    assert stated(Drawing(steps=6, guidance=3.0), [first]) == (6, 3.0)
    assert settings(1, *stated(Drawing(), [silent])) == Settings((0,)) == Settings((0,), 25, 7.5)
    with pytest.raises(ManifestError, match="a has verify.steps 4 and b has verify.steps 8; decide with --steps"):
        stated(Drawing(), [first, second])
    assert stated(Drawing(steps=5), [first, second]) == (5, 0.0)
    with pytest.raises(ManifestError, match="c has no verify.steps and a has verify.steps 4; decide with --steps"):
        stated(Drawing(), [silent, first])
    assert stated(Drawing(steps=4, guidance=1.0), [silent, first]) == (4, 1.0), "the control"


def test_a_forecast_is_written_as_a_share_of_pictures_beside_that_which_was_drawn() -> None:
    one = {"forecast": 1.4, "shown": 1.0, "likeness": None, "another_seed": 0.9}
    assert [report.number(one, key) for key in report.FORMS] == ["100%", "100%", "-", "0.900"]
    assert report.number({**one, "forecast": 0.34}, "forecast") == f"{forecast.shown(0.34):.0%}" == "28%"
