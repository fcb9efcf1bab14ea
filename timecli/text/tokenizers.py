"""CLIP's tokenizer: the one that ships with this package or that of a folder, and its tokens as text."""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Sequence
from functools import cache
from importlib import resources
from itertools import islice
from pathlib import Path

from transformers import CLIPTokenizer

from timecli.errors import CheckpointError, explained
from timecli.files.foreign import read_text

CLIP_VOCABULARY = 49408
FILES = ("tokenizer_config.json", "special_tokens_map.json", "tokenizer.json", "vocab.json", "merges.txt")
"""What transformers reads in a tokenizer's folder."""


@cache
def clip_tokenizer(padding: int | None = None) -> CLIPTokenizer:
    """OpenAI CLIP's tokenizer, from the merges that ship with this package; it pads with the end token or `padding`."""
    packed = resources.files("timecli").joinpath("data/clip/merges.txt.gz").read_bytes()
    merges = [tuple(line.split()) for line in gzip.decompress(packed).decode("utf-8").splitlines()]
    letters = list(_byte_letters())
    pieces = [*letters, *(f"{letter}</w>" for letter in letters), *("".join(pair) for pair in merges)]
    vocab = {piece: i for i, piece in enumerate([*pieces, "<|startoftext|>", "<|endoftext|>"])}
    pad = list(vocab)[padding] if padding is not None else "<|endoftext|>"
    return CLIPTokenizer(vocab=vocab, merges=merges, pad_token=pad, model_max_length=77)


def _printable_bytes() -> list[int]:
    return [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]


def _byte_letters() -> Iterable[str]:
    """The printable stand-ins for the 256 bytes, in the order of GPT-2's and CLIP's vocabularies."""
    yield from map(chr, _printable_bytes())
    yield from (chr(256 + i) for i in range(256 - len(_printable_bytes())))


@cache
def _bytes_of_letters() -> dict[str, int]:
    printable = _printable_bytes()
    others = [byte for byte in range(256) if byte not in printable]
    return dict(zip(_byte_letters(), [*printable, *others], strict=True))


def words(tokens: Sequence[str]) -> list[str]:
    """Tokens of the vocabulary as text; a letter that is cut into several of them says which bytes each has."""
    known = _bytes_of_letters()
    pieces = [bytes(known[letter] for letter in token.removesuffix("</w>") if letter in known) for token in tokens]
    try:
        text = b"".join(pieces).decode()
    except UnicodeDecodeError:  # no text of UTF-8 was cut, so there is nothing to put together
        return [piece.decode("utf-8", "backslashreplace") for piece in pieces]
    rest = iter([(letter, i + 1, count) for letter in text for count in [len(letter.encode())] for i in range(count)])
    return [_shown(piece, list(islice(rest, len(piece)))) for piece in pieces]


def _shown(piece: bytes, parts: Sequence[tuple[str, int, int]]) -> str:
    """A token's bytes as text; `parts` has for each the letter that it is of, its number, and of how many."""
    try:
        return piece.decode()
    except UnicodeDecodeError:
        letters = "".join(dict.fromkeys(letter for letter, _, _ in parts))
        (_, first, count), (_, last, _) = parts[0], parts[-1]
        which = f"{first}" if first == last else f"{first}-{last}"
        return f"{letters} (byte {which} of {count})" if len(letters) == 1 else f"{letters} (in part)"


def require_text(folder: Path) -> None:
    """Refuse a tokenizer of which a file is something else, as Git LFS pointers are; libraries do not say so."""
    for path in (folder / name for name in FILES):
        if path.exists():
            read_text(path, "a tokenizer's text", CheckpointError)


def load(folder: Path | None, padding: int | None, vocabulary: int, name: str) -> CLIPTokenizer:
    """The tokenizer of a folder, or CLIP's own.

    Args:
        folder: a tokenizer folder, as transformers saves it; None for OpenAI CLIP's vocabulary.
        padding: token id with which CLIP's own pads; None for the end token.
        vocabulary: how many tokens the text encoder knows.
        name: how errors call the model.

    Raises:
        CheckpointError: it cannot be read, has another vocabulary, or lacks CLIP's special tokens.
    """
    if folder is None:
        if vocabulary != CLIP_VOCABULARY:
            raise CheckpointError(
                f"{name} has a vocabulary of {vocabulary} tokens, not CLIP's {CLIP_VOCABULARY}; "
                "give its own with --tokenizer or --config, or put its config folder beside the file."
            )
        return clip_tokenizer(padding)
    if not (folder / "tokenizer_config.json").exists():
        raise CheckpointError(f"{folder} has no tokenizer_config.json; give a tokenizer folder.")
    require_text(folder)
    with explained(f"{folder} cannot be read as a tokenizer"):
        reader = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
        ids, ends = list(reader("a").input_ids), [reader.bos_token_id, reader.eos_token_id, reader.pad_token_id]
    if len(reader) != vocabulary:
        raise CheckpointError(
            f"the tokenizer for {name} has {len(reader)} tokens and its text encoder {vocabulary}; they must agree."
        )
    known = all(isinstance(token, int) and 0 <= token < vocabulary for token in (*ids, *ends))
    if not known or [ids[0], ids[-1]] != ends[:2]:
        raise CheckpointError(
            f"{folder} is a tokenizer without CLIP's start, end and padding tokens; use the model's own."
        )
    return reader
