"""What the libraries that draw have to tell each other, kept from who calls this package."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from diffusers.utils import logging as diffusers
from transformers.utils import logging as transformers


@contextmanager
def quiet() -> Iterator[None]:
    """Inside, diffusers and transformers log errors alone, also while they are imported; then what they logged."""
    kept = (diffusers.get_verbosity(), transformers.get_verbosity())
    for library in (diffusers, transformers):
        library.set_verbosity_error()
    try:
        yield
    finally:
        for library, level in zip((diffusers, transformers), kept, strict=True):
            library.set_verbosity(level)
