"""TOML is read strictly; every refusal names the file and the field; the schema says the same as the reader."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import tomli
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from timecli.errors import ManifestError
from timecli.manifests.keys import AUGMENTATIONS, WORDINGS, Edit, Solve
from timecli.manifests.manifest import Manifest, load, parse, schema

DATA = Path(__file__).parent / "data" / "manifests"
VALID = sorted((DATA / "valid").glob("*.toml"))
INVALID = sorted((DATA / "invalid").glob("*.toml"))
BEYOND_SCHEMA = (
    "threshold-without-tests",
    "identical",
    "identical-positive",
    "same-source-twice",
    "lambda-nan",
    "not-toml",
)
"""What a JSON Schema cannot express."""


def test_the_corpus_is_there() -> None:
    assert len(VALID) >= 3 and len(INVALID) >= 25


def test_the_least_manifest_preserves_the_everyday_world() -> None:
    found = load(DATA / "valid" / "least.toml")
    assert found == Manifest("least", (Edit("A rose", "A blue rose"),), text=found.text)
    assert (found.preserve.everyday, found.preserve.everyday_weight, found.templates) == (True, 3.0, WORDINGS)
    assert (found.lam(found.edits[0]), found.strength(found.edits[0])) == (0.1, 1.0)


def test_without_it_the_defaults_are_the_papers() -> None:
    text = (DATA / "valid" / "least.toml").read_text(encoding="utf-8")
    found = parse(f"{text}[preserve]\neveryday = false\n")
    assert found.solve == Solve(0.1, 1.0, None, ("k", "v"), None, "all") and found.templates == AUGMENTATIONS
    assert parse(f"{text}[solve]\naugment = true\n").templates == AUGMENTATIONS
    assert parse(f"{text}[solve]\naugment = false\n").templates == ()
    assert parse(f'{text}[solve]\naugment = "wordings"\n[preserve]\neveryday = false\n').templates == WORDINGS


def test_every_key_is_read() -> None:
    found = load(DATA / "valid" / "everything.toml")
    assert found.solve == Solve(1000.0, 0.8, ("A drawing of {}", "{} in the rain"), ("v",), (0, 15), "prompt")
    assert [found.lam(edit) for edit in found.edits] == [0.05, 1000.0]
    assert found.edits[0].positives[0].destination == "A vase of blue roses"
    assert [found.strength(edit) for edit in found.edits] == [1.5, 0.8]
    assert found.edits[0].explicit[0].prompt == "A pack of red roses"
    assert (found.preserve.prompts, found.preserve.weight) == (("A daisy",), 2.5)
    assert (found.preserve.everyday, found.preserve.everyday_weight) == ("everyday.txt", 0.5)
    assert (found.verify.explicit, found.verify.kept, found.verify.reached) == (0.9, 0.8, 0.7)
    assert (found.verify.seeds, found.verify.efficacy, found.verify.specificity) == (4, 0.8, 0.0)
    assert found.text == (DATA / "valid" / "everything.toml").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", INVALID, ids=lambda path: path.stem)
def test_invalid_manifests_are_refused_with_one_sentence(path: Path) -> None:
    expected = path.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")
    with pytest.raises(ManifestError) as refusal:
        load(path)
    sentence = str(refusal.value)
    assert expected in sentence
    assert sentence.startswith(str(path)) and sentence.endswith((".", "?")) and "\n" not in sentence


def test_missing_and_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="cannot be read: No such file"):
        load(tmp_path / "missing.toml")
    (tmp_path / "latin.toml").write_bytes('name = "é"'.encode("latin-1"))
    with pytest.raises(ManifestError, match="not a manifest in UTF-8 text"):
        load(tmp_path / "latin.toml")


def test_the_schema_is_valid_and_accepts_what_the_reader_accepts() -> None:
    jsonschema.Draft202012Validator.check_schema(schema())
    for path in VALID:
        jsonschema.validate(tomli.loads(path.read_text(encoding="utf-8")), schema())


@pytest.mark.parametrize(
    "path", [path for path in INVALID if path.stem not in BEYOND_SCHEMA], ids=lambda path: path.stem
)
def test_the_schema_refuses_what_the_reader_refuses(path: Path) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(tomli.loads(path.read_text(encoding="utf-8")), schema())


def test_the_schema_in_the_repository_is_current() -> None:
    stored = Path(__file__).parent.parent / "edits" / "manifest.schema.json"
    assert json.loads(stored.read_text(encoding="utf-8")) == schema(), (
        "run: timecli schema > edits/manifest.schema.json"
    )


leaves = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.just("A rose"))
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)
KEYS = ("name", "description", "model", "solve", "edit", "preserve", "verify")


@settings(suppress_health_check=[HealthCheck.too_slow])  # a machine that does other things, too
@given(st.dictionaries(st.sampled_from(KEYS), values), st.text(max_size=40))
def test_anything_else_is_a_manifest_error_and_nothing_worse(table: dict[str, Any], text: str) -> None:
    for candidate in (text, "\n".join(f"{key} = {json.dumps(value)}" for key, value in table.items())):
        try:
            parse(candidate)
        except ManifestError as error:
            assert "\n" not in str(error)
