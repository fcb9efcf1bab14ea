"""One HTML file that holds everything: template, style, script and pictures. It asks nothing of the network."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from functools import cache
from hashlib import sha256
from importlib import resources
from io import BytesIO
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from PIL.Image import Image

from timecli.shown import amount, harmless

FOLDER = "data/page"
SMALL = 128
"""Pixels of a side up to which a picture is kept exactly, as PNG; larger ones are WebP, a tenth of the bytes."""
QUALITY = 90


def filled(template: str, styles: Sequence[str], scripts: Sequence[str], **values: Any) -> str:
    """A template with its values; the browser is told to run these styles and scripts and no others."""
    style, script = (Markup("".join(map(_read, names))) for names in (styles, scripts))
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    return _templates().get_template(template).render(style=style, script=script, policy=policy, **values)


def address(picture: Image) -> str:
    """A picture as a `data:` address."""
    content = BytesIO()
    kind = "png" if max(picture.size) <= SMALL else "webp"
    picture.save(content, kind, **({"optimize": True} if kind == "png" else {"quality": QUALITY}))
    return f"data:image/{kind};base64,{b64encode(content.getvalue()).decode()}"


@cache
def _templates() -> Environment:
    """Every value that a template shows is made harmless, then escaped."""
    made = Environment(
        loader=PackageLoader("timecli", FOLDER),
        autoescape=True,
        finalize=_harmless,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.globals["amount"] = amount
    return made


def _harmless(value: Any) -> Any:
    """Styles, scripts and what a macro wrote are markup of this package; all other text may be of anyone."""
    return harmless(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _hash(text: str) -> str:
    return f"sha256-{b64encode(sha256(text.encode()).digest()).decode()}"


def _read(name: str) -> str:
    return resources.files("timecli").joinpath(FOLDER, name).read_text(encoding="utf-8")
