"""A manifest from one pair of prompts: what is said, what is left out, and what it does on picturebook."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from timecli.editing import compiling, forecast, neighbours
from timecli.errors import ManifestError
from timecli.manifests import draft_text, drafts, keys, manifest, wording
from timecli.models.checkpoint import open_checkpoint
from timecli.text import encoding

from .conftest import Run


def made(source: str, destination: str) -> manifest.Manifest:
    """The manifest of a pair, read back."""
    return manifest.parse(draft_text.written(drafts.draft(wording.read(source, destination)), "x"))


def pairs(found: manifest.Manifest) -> list[tuple[str, str]]:
    return [(edit.source, edit.destination) for edit in found.edits]


@pytest.mark.parametrize(
    ("pair", "second"),
    [
        (("a rose", "a blue rose"), ("Roses", "Blue roses")),
        (("an apple", "a blue apple"), ("Apples", "Blue apples")),
        (("roses", "blue roses"), ("A rose", "A blue rose")),
        (("Apples", "Orange apples"), ("An apple", "An orange apple")),
        (("a CEO", "a female CEO"), ("CEOs", "Female CEOs")),
        (("a coffee mug", "a steel coffee mug"), ("Coffee mugs", "Steel coffee mugs")),
        (("a cow", "a cow on the beach"), ("Cows", "Cows on the beach")),
        (("a red rose", "a rose"), ("Red roses", "Roses")),
        (("a red rose", "a blue rose"), ("Red roses", "Blue roses")),
        (("a man wearing a hat", "a man wearing a red hat"), ("Men wearing a hat", "Men wearing a red hat")),
        (("a bus", "a red bus"), ("Buses", "Red buses")),
        (("a woman", "an old woman"), ("Women", "Old women")),
        (("a rose.", "a blue rose."), ("Roses", "Blue roses")),
        (("a mother-in-law", "an old mother-in-law"), ("Mothers-in-law", "Old mothers-in-law")),
    ],
)
def test_the_other_number_is_a_second_pair(pair: tuple[str, str], second: tuple[str, str]) -> None:
    found = pairs(made(*pair))
    assert found[1:] == [second]
    assert [text.lower() for text in found[0]] == [text.lower() for text in pair] or pair[0].endswith(".")
    assert all(text[0].isupper() for one in found for text in one)


@pytest.mark.parametrize(
    "pair",
    [
        ("lightning", "green lightning"),
        ("the moon", "the green moon"),
        ("a cat", "a cat with its kitten"),
        ("dogs", "two dogs"),
        ("jeans", "white jeans"),
        ("Paris", "Paris in the snow"),
        ("ramen", "green ramen"),
        ("tennis", "indoor tennis"),
        ("a dog", "a polar bear"),  # "dogs" and "polar bears" share no word, so that it would be refused
        ("a dog", "a dog is wearing a hat"),
        ("a dog running", "a black dog running"),
        ("a man eating vegetables", "a man eating green vegetables"),
        ("Burger king", "Burger king pizza"),
        ("my dog", "my green dog"),
        ("a rose, highly detailed", "a blue rose, highly detailed"),
        ("a 3d dog", "a green 3d dog"),
    ],
)
def test_what_has_no_other_number_gets_none_and_says_so(pair: tuple[str, str]) -> None:
    draft = drafts.draft(wording.read(*pair))
    assert draft.second == ()
    assert draft.positives
    assert draft.left_out or draft.change.other
    assert drafts.draft(wording.read("a rose", "a blue rose")).left_out == (), "the control"


PLAIN = [
    ("1girl", "1girl, blue hair"),
    ("1girl, solo", "1girl, blue_hair, solo"),
    ("cat", "cat, green eyes"),
    ("blue_hair", "blue_hair, long_hair"),
    ("玫瑰", "蓝色的玫瑰"),
    ("一朵玫瑰 花", "一朵 花"),
    ("狗", "黑狗"),
    ("ばら", "青いばら"),
    ("バラ", "青いバラ"),
    ("ดอกกุหลาบ", "ดอกกุหลาบสีน้ำเงิน"),
    ("장미", "파란 장미"),
    ("роза", "синяя роза"),
]


@pytest.mark.parametrize("pair", PLAIN)
def test_tags_and_other_languages_are_a_plain_pair(pair: tuple[str, str], run: Run, tmp_path: Path) -> None:
    """As they are written, without English around them, and with a comment what to add."""
    done = run("init", *pair, "-o", tmp_path / "x.toml")
    assert done.code == 0, done.err
    found = manifest.load(tmp_path / "x.toml")
    assert pairs(found) == [pair] and found.edits[0].positives == found.edits[0].explicit == ()
    assert found.verify.generality is None and found.verify.efficacy
    text = (tmp_path / "x.toml").read_text()
    assert "# What the pair is about was not understood" in text and "positives = []" in text
    assert "was not understood" in done.err
    assert "not understood" not in made("a rose", "a blue rose").text, "the control"


@pytest.mark.parametrize(
    "pair",
    [
        ("eine Rose", "eine blaue Rose"),
        ("un chien", "un chien noir"),
        ("(a rose:1.3)", "(a blue rose:1.3)"),
        ("a rose <lora:x:0.8>", "a blue rose <lora:x:0.8>"),
        ('"a rose"', '"a blue rose"'),
        ("a rose \N{ROSE}", "a blue rose \N{ROSE}"),
    ],
)
def test_what_is_no_english_gets_no_english_wordings(pair: tuple[str, str]) -> None:
    draft = drafts.draft(wording.read(*pair))
    assert draft.positives == () and not draft.change.noun
    assert (draft.change.source, draft.change.destination) == pair
    assert drafts.draft(wording.read("a rose in Los Angeles", "a blue rose in Los Angeles")).positives, "the control"


def test_what_is_not_understood_is_said_as_it_was_typed() -> None:
    found = made("children playing", "girls playing").edits[0]
    assert (found.source, found.positives[0].prompt) == ("children playing", "A sketch of children playing")


def test_a_woman_is_a_man_otherwise_and_the_young_are_old() -> None:
    found = made("a firefighter", "a woman firefighter")
    assert [test.prompt for test in found.edits[0].explicit] == ["A man firefighter"]
    assert len(found.edits) == 1, 'there are no "woman firefighters"'
    written = draft_text.written(
        replace(drafts.draft(wording.read("a nurse", "a nurse who is a man")), negatives=(("A cook", "A man cook"),)),
        "x",
    )
    assert "specificity" not in written, "of people who are drawn as either before, too"
    young = made("a doctor", "a young doctor").edits[0].explicit
    assert [test.prompt for test in young][:2] == ["An elderly doctor", "A middle-aged doctor"]


def test_a_prompt_that_is_longer_than_any_file_name_is_a_prompt(run: Run, tmp_path: Path) -> None:
    long = "very " * 80
    done = run("init", f"a {long}red rose", f"a {long}blue rose", "-o", tmp_path / "x.toml")
    assert done.code == 0, done.err


def test_an_accent_of_its_own_is_the_letter_with_it() -> None:
    assert wording.read("e\u0301cole", "\u00e9cole bleue").destination == "\u00e9cole bleue"
    with pytest.raises(ManifestError, match="no word in common"):
        wording.read("ecole", "\u00e9cole bleue")


def test_tags_without_a_tag_in_common_are_refused() -> None:
    for pair in (("1girl", "1boy, blue hair"), ("玫瑰", "蓝色的花"), ("ばら", "青いはな"), ("ดอกกุหลาบ", "แมว")):
        with pytest.raises(ManifestError, match="no word in common"):
            wording.read(*pair)


def test_tags_are_planned(run: Run, picturebook: Path, small: Path, tmp_path: Path) -> None:
    """The pair's tokens meet: with CLIP's vocabulary, a tag and a comma are tokens, and letters are bytes."""
    for pair in PLAIN:
        assert run("init", *pair, small, "-o", tmp_path / "x.toml", "--force", "--no-cache").code == 0, pair
        done = run("edit", tmp_path / "x.toml", small, "--delta", tmp_path / "d", "--everyday-weight", "0")
        assert done.code == 0, (pair, done.err)
        (tmp_path / "d").unlink()


def test_what_a_pair_does_not_say_is_offered_and_not_edited() -> None:
    """A pack of roses is no single rose: an edit of all roses is more than was asked for."""
    found = made("a pack of roses", "a pack of blue roses")
    assert pairs(found) == [("A pack of roses", "A pack of blue roses")]
    tests = [*found.edits[0].positives, *found.edits[0].explicit]
    assert all("pack of" in probe.prompt for probe in tests), "and none of its tests asks for more"
    wider = re.sub(r"(?m)^# (?=\[\[edit\]\]|source|destination)", "", found.text)
    assert pairs(manifest.parse(wider))[1:] == [("Roses", "Blue roses"), ("A rose", "A blue rose")]
    assert pairs(made("a pair of boots", "a pair of red boots")) == [("A pair of boots", "A pair of red boots")]
    assert pairs(made("a vase of roses", "a glass vase of roses"))[1:] == [("Vases of roses", "Glass vases of roses")]


@pytest.mark.parametrize(
    ("pair", "others"),
    [
        (("a rose", "a blue rose"), ["A red rose", "A yellow rose", "A green rose", "A white rose"]),
        (("a doctor", "a female doctor"), ["A male doctor", "Male doctors"]),
        (
            ("an ice cream", "a chocolate ice cream"),
            [f"A {flavour} ice cream" for flavour in ("vanilla", "strawberry", "caramel", "pistachio")],
        ),
        (("a chair", "a wooden chair"), ["A metal chair", "A glass chair", "A plastic chair", "A stone chair"]),
        (("dogs", "two dogs"), ["Three dogs", "Four dogs", "Five dogs", "Six dogs"]),
        (("a bride", "a bride with an orange hat"), ["A bride with a red hat", "A bride with a yellow hat"]),
        (("a cow", "a cow on the beach"), ["A cow in the snow", "A cow in the forest"]),
        (("a cup of tea", "a cup of tea on the beach"), ["A cup of tea in the snow", "A cup of tea in the forest"]),
        (("a red rose", "a blue rose"), ["A yellow rose", "A green rose", "A white rose", "A black rose"]),
        (("a bear", "a polar bear"), []),
        (("a red rose", "a rose"), []),
        (("a cow", "a cow with a hat on the head"), []),
        (("a car", "a red and blue car"), []),
        (("a shirt", "a striped red shirt"), ["A striped yellow shirt", "A striped green shirt"]),
        (("a clock", "a spotted square clock"), ["A striped square clock", "A checkered square clock"]),
    ],
)
def test_other_values_are_explicit_and_preserved(pair: tuple[str, str], others: list[str]) -> None:
    found = made(*pair)
    prompts = [probe.prompt for probe in found.edits[0].explicit]
    assert prompts[: len(others)] == others and bool(prompts) == bool(others)
    assert found.preserve.prompts == tuple(prompts)
    assert (found.verify.explicit is not None) == bool(others)


def test_another_value_has_the_article_that_it_needs() -> None:
    named = [prompt for prompt, _ in drafts.named(wording.read("a rose", "a blue rose"))]
    assert {"An orange rose", "A red rose"} <= {*named} and "A orange rose" not in named
    others = [probe.prompt for probe in made("a rose", "an orange rose").edits[0].explicit]
    assert others[0] == "A red rose"
    oval = [probe.prompt for probe in made("a clock", "a square clock").edits[0].explicit]
    assert "An oval clock" in oval and "A round clock" in oval


@pytest.mark.parametrize(("value", "templates"), [("blue", keys.AUGMENTATIONS), ("sleeping", keys.WORDINGS)])
def test_positives_are_other_wordings_than_those_that_are_edited(value: str, templates: tuple[str, ...]) -> None:
    found = made("a rose", f"a {value} rose")
    assert found.templates == templates
    edited = {t.replace("{}", text).lower() for t in templates for text in ("a rose", "roses")}
    prompts = [probe.prompt for probe in found.edits[0].positives]
    assert "A sketch of a rose" in prompts and "Roses in the city" in prompts
    assert not {prompt.lower() for prompt in prompts} & edited


def test_a_draft_goes_as_far_as_it_says_and_weighs_what_it_preserves_by_default() -> None:
    colour, bare = made("a rose", "a blue rose"), made("a bear", "a polar bear")
    draft = replace(drafts.draft(wording.read("a bear", "a polar bear")), preserved=("A fox",))
    beside = manifest.parse(draft_text.written(draft, "x"))
    assert colour.preserve.prompts and beside.preserve.prompts and not bare.preserve.prompts
    for found in (colour, bare, beside):
        assert found.strength(found.edits[0]) == 1 and found.preserve.weight == keys.Preserve().weight
        assert found.preserve.everyday_weight == keys.Preserve().everyday_weight
        assert found.verify.worst == draft_text.WORST


def test_positives_of_what_stands_behind_say_nothing_more_there() -> None:
    behind = [probe.destination for probe in made("a cow", "a cow on the beach").edits[0].positives]
    assert "A small cow on the beach" in behind and not [text for text in behind if "city" in text]


def test_positives_of_what_is_somewhere_already_name_no_second_place() -> None:
    for source, destination, small in (
        ("a house in the snow", "a blue house in the snow", "A small house in the snow"),
        ("houses near the sea", "blue houses near the sea", "Small houses near the sea"),
        ("a man standing on the beach", "an old man standing on the beach", "A small man standing on the beach"),
        ("a bowl of apples in the kitchen", "a bowl of green apples in the kitchen", ""),
    ):
        prompts = [probe.prompt for probe in made(source, destination).edits[0].positives]
        assert prompts and not [text for text in prompts if re.search("city|forest|desert", text)]
        assert small in prompts if small else len(prompts) == len(drafts.FRONT), "nothing wider than what was asked for"
    for pair in (("a woman in a dress", "an old woman in a dress"), ("a rose", "a blue rose")):
        assert [probe for probe in made(*pair).edits[0].positives if "in the" in probe.prompt], "the control"


def test_without_a_second_pair_nothing_is_tested_in_the_other_number() -> None:
    draft = drafts.draft(wording.read("a cat", "a dog"))
    assert draft.second == () and not [prompt for prompt, _ in draft.positives if "cats" in prompt.lower()]
    assert "no second pair" in draft.left_out[0]
    framed = drafts.draft(wording.read("a flock of sheep", "a flock of black sheep"))
    assert framed.left_out == () and framed.wider, "the wider pair is in a comment"


def test_wordings_are_those_that_somebody_would_write() -> None:
    def prompts(*pair: str) -> list[str]:
        return [prompt for prompt, _ in drafts.draft(wording.read(*pair)).positives]

    assert "A sketch of my dog" in prompts("my dog", "my green dog")
    assert prompts("roses are red", "roses are blue") == [], "a sentence stands in no other prompt"
    photos = prompts("a photo of a cat", "a photo of a black cat")
    assert photos and not [prompt for prompt in photos if "sketch" in prompt], "a photo is no sketch"
    flag = drafts.draft(wording.read("a red and white flag", "a blue and white flag"))
    assert flag.second == () and not [prompt for prompt, _ in flag.positives if "reds" in prompt.lower()]
    with pytest.raises(ManifestError, match="are both"):
        wording.read("a house", "a house!")


def test_neighbours_of_a_gender_have_no_threshold_that_the_unedited_model_misses() -> None:
    """A baker is drawn as a woman and as a man before anything is edited."""
    for pair, limit in ((("a CEO", "a female CEO"), None), (("a rose", "a blue rose"), 0.9)):
        draft = drafts.draft(wording.read(*pair))
        draft = replace(draft, negatives=(("A baker", "A female baker"),))
        assert manifest.parse(draft_text.written(draft, "x")).verify.specificity == limit
        if limit is None:
            assert manifest.parse(draft_text.written(drafts.balanced(draft), "x")).verify.specificity is None


def test_a_name_has_no_small_one() -> None:
    prompts = [probe.prompt for probe in made("Mona Lisa", "Mona Lisa with glasses").edits[0].positives]
    assert prompts == ["A sketch of Mona Lisa", "A cartoon of Mona Lisa"]


@pytest.mark.parametrize(
    ("pair", "sentence"),
    [
        (("a rose", "A  Rose"), "are both"),
        (("lightning", "thunder"), "no word in common; name the same thing in both"),
        (("a dog", "two dogs"), "no word in common; write 'dogs' in both"),
        (("roses", "a blue rose"), "no word in common; write 'rose' in both"),
        (("a cat!", "some -- dogs, 3"), "no word in common; name the same thing in both"),
        ((" ", "a rose"), "empty"),
    ],
)
def test_what_cannot_be_a_pair_is_refused(pair: tuple[str, str], sentence: str, run: Run, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=sentence):
        wording.read(*pair)
    outcome = run("init", *pair, "-o", tmp_path / "x.toml")
    assert outcome.code == 2 and sentence in outcome.err and not (tmp_path / "x.toml").exists()


def test_without_a_model_it_says_what_is_missing(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = run("init", "a rose", "a blue rose")
    assert outcome.code == 0 and "timecli plan blue-rose.toml MODEL" in outcome.err and "neighbours" in outcome.err
    found = manifest.load(tmp_path / "blue-rose.toml")
    assert found.name == "blue-rose" and found.edits[0].negatives == () and found.verify.specificity is None


def test_nothing_is_replaced_without_force(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("mine")
    assert run("init", "a rose", "a blue rose", "-o", path).code == 2 and path.read_text() == "mine"
    assert run("init", "a rose", "a blue rose", "-o", path, "--force").code == 0
    assert manifest.load(path).name == "mine"
    assert run("init", "a rose", "a blue rose", "-o", path, "--force", "--name", "a b").code == 2
    assert manifest.load(path).name == "mine", "what is no manifest is not written"


def test_on_picturebook_neighbours_stay_and_plan_is_content(run: Run, picturebook: Path, tmp_path: Path) -> None:
    path = tmp_path / "blue-roses.toml"
    outcome = run("init", "a rose", "a blue rose", picturebook, "-o", path)
    assert outcome.code == 0 and "'A rosebud' would go" in outcome.err, "another word for it is no neighbour"
    edit = manifest.load(path).edits[0]
    prompts = [probe.prompt for probe in edit.negatives]
    assert len(prompts) == 5 and "A tulip" in prompts and not {"A rose", "A rosebud"} & {*prompts}
    assert ("A tulip", "A blue tulip") in [(probe.prompt, probe.destination) for probe in edit.negatives]
    assert run("plan", path, picturebook).code == 0
    bare = tmp_path / "bare.toml"
    text = path.read_text()
    before, after = text.split("[preserve]")[0], text[text.index("[verify]") :]
    bare.write_text(f"{before}[preserve]\neveryday = false\n\n{after}")
    assert run("plan", bare, picturebook).code == 1, "the control"


def test_another_word_for_the_source_is_told_by_the_pairs_alone(run: Run, picturebook: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    outcome = run("init", "a house", "a house on the beach", picturebook, "-o", path)
    assert "'A cottage' would go" in outcome.err
    found = manifest.load(path)
    prompts = [probe.prompt for probe in found.edits[0].negatives]
    assert "A church" in prompts and not {"A cottage"} & {*prompts, *found.preserve.prompts}


def test_what_the_model_assumes_is_preserved_when_a_prompt_says_it(run: Run, picturebook: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    assert run("init", "a house", "an orange house", picturebook, "-o", path).code == 0
    found = manifest.load(path)
    named = [probe.prompt for probe in found.edits[0].explicit]
    assert named[0] == "A brown house" and len(named) == 4 and {*named} <= {*found.preserve.prompts}
    assert "A brown house" not in [probe.prompt for probe in made("a house", "an orange house").edits[0].explicit]
    assert run("init", "a house", "a haunted house", picturebook, "-o", path, "--force").code == 0
    assert manifest.load(path).edits[0].explicit == (), "nothing to choose from"


def test_what_shares_the_sources_own_value_stays(run: Run, picturebook: Path, tmp_path: Path) -> None:
    """A red tulip goes along with a red rose since both are red, and is no other word for it."""
    path = tmp_path / "x.toml"
    outcome = run("init", "a red rose", "a blue rose", picturebook, "-o", path)
    found = manifest.load(path)
    prompts = {probe.prompt for probe in found.edits[0].negatives}
    assert {"A red tulip", "A red poppy"} <= prompts <= {*found.preserve.prompts} and "another word" not in outcome.err
    assert run("plan", path, picturebook).code == 0
    assert run("init", "a vase with roses", "a vase with white roses", picturebook, "-o", path, "--force").code == 0
    assert len(manifest.load(path).edits[0].negatives) == 5, "what else has roses"
    assert "'A rosebud' would go" in run("init", "a rose", "a blue rose", picturebook, "-o", tmp_path / "y.toml").err


def test_there_is_no_male_woman(run: Run, picturebook: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    for pair, woman in ((("a nurse", "a male nurse"), False), (("a nurse", "a nurse in the snow"), True)):
        assert run("init", *pair, picturebook, "-o", path, "--force").code == 0
        negatives = [probe.prompt for probe in manifest.load(path).edits[0].negatives]
        assert len(negatives) == 5 and ("A woman" in negatives) == woman


def test_of_several_another_word_is_told_by_one(run: Run, picturebook: Path, tmp_path: Path) -> None:
    """Several strawberries go along with several roses, all the way: they are harmed, not meant."""
    path = tmp_path / "x.toml"
    outcome = run("init", "roses", "blue roses", picturebook, "-o", path)
    found = manifest.load(path)
    prompts = {probe.prompt for probe in found.edits[0].negatives}
    assert prompts >= {"Tulips", "Strawberries"} and prompts <= {*found.preserve.prompts}
    assert "'A rosebud' would go" in outcome.err and "Rosebuds" not in prompts
    assert run("plan", path, picturebook).code == 0
    outcome = run("init", "dogs", "two dogs", picturebook, "-o", path, "--force")
    assert "'Dogs'" not in outcome.err and "Dogs" not in [one.prompt for one in manifest.load(path).edits[0].negatives]


@pytest.mark.parametrize(
    "pair", [("a CEO", "a female CEO"), ("a clock", "a square clock"), ("a pack of roses", "a pack of blue roses")]
)
def test_plan_is_content_with_genders_shapes_and_packs(
    pair: tuple[str, str], run: Run, picturebook: Path, tmp_path: Path
) -> None:
    assert run("init", *pair, picturebook, "-o", tmp_path / "x.toml").code == 0
    outcome = run("plan", tmp_path / "x.toml", picturebook)
    assert outcome.code == 0, outcome.err


def test_neighbours_of_several_are_several_and_of_a_part_none(run: Run, picturebook: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    assert run("init", "a pack of roses", "a pack of blue roses", picturebook, "-o", path).code == 0
    assert "Blue violets" in [probe.destination for probe in manifest.load(path).edits[0].negatives]
    assert run("init", "a vase of roses", "a glass vase of roses", picturebook, "-o", path, "--force").code == 0
    assert manifest.load(path).edits[0].negatives == ()


def test_editors_find_the_schema(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside the manifest, where it is written once, or above it, where there is one already."""
    monkeypatch.chdir(tmp_path)
    assert run("init", "a rose", "a blue rose", "-o", "a.toml").code == 0
    assert Path("a.toml").read_text().splitlines()[0] == "#:schema manifest.schema.json"
    known = json.loads(Path("manifest.schema.json").read_text())
    assert known == manifest.schema()
    assert all("description" in key for key in known["$defs"]["Edit"]["properties"].values())
    Path("manifest.schema.json").write_text("{}")
    Path("more").mkdir()
    done = run("init", "a rose", "a blue rose", "-o", "more/b.toml", "--json")
    assert Path("more/b.toml").read_text().splitlines()[0] == "#:schema ../manifest.schema.json"
    assert json.loads(done.out)["written"] == ["more/b.toml"] and Path("manifest.schema.json").read_text() == "{}"


def test_other_values_are_those_that_the_model_can_know(run: Run, picturebook: Path, tmp_path: Path) -> None:
    """picturebook has round and square things alone; its vocabulary spells every other shape."""
    found = {}
    for name, model in (("with", [picturebook]), ("without", [])):
        done = run("init", "a pizza", "a square pizza", *model, "-o", tmp_path / f"{name}.toml")
        assert done.code == 0, done.err
        found[name] = [test.prompt for test in manifest.load(tmp_path / f"{name}.toml").edits[0].explicit]
    assert set(found["with"]) == {"A round pizza", "Round pizzas"}
    assert "A triangular pizza" in found["without"], "the control"


def test_a_thing_that_the_model_does_not_know_has_the_values_that_it_knows(
    run: Run, picturebook: Path, tmp_path: Path
) -> None:
    done = run("init", "a dragon", "a green dragon", picturebook, "-o", tmp_path / "x.toml")
    explicit = [test.prompt for test in manifest.load(tmp_path / "x.toml").edits[0].explicit]
    assert done.code == 0 and len(explicit) == drafts.OTHERS and "A red dragon" in explicit


def test_a_value_that_moves_no_text_is_none_to_the_model(picturebook: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = open_checkpoint(picturebook)
    encoder = encoding.read_text_encoder(checkpoint, None, torch.device("cpu"))
    change = wording.read("a rose", "a blue rose")
    metric = forecast.metric(checkpoint, compiling.origin(made("a rose", "a blue rose"), encoder), encoder)
    known = {prompt for prompt, _ in neighbours._known(change, encoder, metric)}
    assert {"a red rose", "a green rose"} <= known, "the control"
    monkeypatch.setattr(neighbours, "STILL", 2.0)  # no value moves the text twice as far as the destination's
    assert not neighbours._known(change, encoder, metric)
