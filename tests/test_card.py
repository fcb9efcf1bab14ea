"""`verify --card` writes a page that the hub reads, with all that a user of an edited model needs to know."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PIL import Image

from timecli.drawing import card
from timecli.manifests import manifest

from .conftest import Run, small_manifest

FOUND: dict[str, Any] = {
    "manifest": "roses", "model": "sd.safetensors", "doubts": ["asked for x."], "missed": [], "balances": {},
    "edits": {"after": {}}, "best": "after", "scores": None, "seeds": [0], "steps": 2, "guidance": 3.0,
    "timecli": "0.1", "base": "abc",
}  # fmt: skip
ROSES = 'name = "roses"\n[[edit]]\nsource = "A rose"\ndestination = "A blue rose"\n'
SCORES = {"edited": {"efficacy": {"mean": 0.9, "std": 0.1}}}


def test_a_card_has_edits_reasons_numbers_and_the_way_back() -> None:
    text = (
        'name = "roses"\ndescription = "Roses | are blue."\n[[edit]]\nsource = "A rose"\ndestination = "A blue rose"\n'
    )
    page = card.card(manifest.parse(text), FOUND | {"scores": SCORES}, "README.png")
    head = page.split("---")[1]
    assert "license:" in head and "base_model:" in head and "pipeline_tag: text-to-image" in head
    for part in (
        *(
            "Roses \\| are blue.",
            "| A rose | A blue rose | 1 |",
            "![before, after, oracle](README.png)",
            "90.0% ± 10.0%",
        ),
        *("--undo", "`abc`", text.strip(), "**in doubt**: asked for x.", "licence of the base model"),
    ):
        assert part in page, part
    assert "Nothing was measured" in card.card(manifest.parse(text), FOUND, "x.png"), "without a judge"


def test_a_manifests_text_stays_in_its_fence() -> None:
    text = f"{ROSES}# {card.FENCE}\n# <script>\n"
    page = card.card(manifest.parse(text), FOUND, "x.png")
    assert page.count(card.FENCE) == 2 and page.index("<script>") < page.rindex(card.FENCE)


def test_verify_writes_the_card_and_its_pictures_and_replaces_nothing(
    run: Run, picturebook: Path, tmp_path: Path
) -> None:
    made = small_manifest(tmp_path)
    command = ("verify", made, picturebook, "-o", tmp_path / "r", "--card", tmp_path / "README.md")
    small = ("--seeds", 1, "--steps", 1)
    (tmp_path / "README.png").write_bytes(b"mine")
    refused = run(*command, *small)
    assert refused.code == 2 and "README.png already exists; use --force" in refused.err
    assert not (tmp_path / "r").exists() and (tmp_path / "README.png").read_bytes() == b"mine"
    (tmp_path / "README.png").unlink()
    done = run(*command, *small)
    assert done.code == 0 and f"wrote {tmp_path / 'README.md'}" in done.out, done.err
    assert Image.open(tmp_path / "README.png").width > 300
    assert "| A rose | A blue rose | 1 |" in (tmp_path / "README.md").read_text()
    wrong = run("verify", made, picturebook, "-o", tmp_path / "s", "--card", tmp_path / "README")
    assert wrong.code == 2 and "does not end in .md" in wrong.err
