"""CLIP's tokenizer: the one that ships with this package or that of a folder, and its tokens as text."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from itertools import islice
from pathlib import Path
from typing import Any

import tokenizers as library
from tokenizers import AddedToken, normalizers, pre_tokenizers, processors

from timecli.errors import CheckpointError, explained
from timecli.files import code
from timecli.files.foreign import read_json, read_text
from timecli.models.tekken import LETTERS

CLIP_VOCABULARY = 49408
SPARE = 1024
"""Rows that a text encoder may have more than CLIP's tokens: textual inversion adds some, and programs fill them up."""
START, END = "<|startoftext|>", "<|endoftext|>"
FILES = ("tokenizer_config.json", "special_tokens_map.json", "tokenizer.json", "vocab.json", "merges.txt")
"""What transformers reads in a tokenizer's folder."""
NAMED = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": END}
"""Tokens with a task, by their names in a tokenizer's config, and what they are in CLIP."""
PIECES = r"""<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"""
"""What CLIP cuts a text into before it looks for tokens (Radford et al. 2021, as published with the model)."""


@dataclass(frozen=True)
class Tokenizer:
    """A tokenizer of CLIP's kind.

    Attributes:
        engine: does the work.
        start: id of the token before every prompt.
        end: id of the one behind it.
        pad: id of the padding.
        folder: where it was read; None for the one that ships with this package.
    """

    engine: library.Tokenizer
    start: int
    end: int
    pad: int
    folder: Path | None = None

    def __len__(self) -> int:
        """How many tokens it knows."""
        return int(self.engine.get_vocab_size())

    def ids(self, prompt: str) -> list[int]:
        """Token ids from start to end token."""
        return list(self.engine.encode(prompt).ids)

    def id(self, token: str) -> int | None:
        """A token's id, if it has one."""
        return self.engine.token_to_id(token)

    def tokens(self, ids: Iterable[int]) -> list[str]:
        """Tokens by their ids, as the vocabulary has them."""
        return [str(self.engine.id_to_token(number)) for number in ids]


@cache
def clip_tokenizer(padding: int | None = None) -> Tokenizer:
    """OpenAI CLIP's tokenizer, from the merges that ship with this package; it pads with the end token or `padding`."""
    packed = resources.files("timecli").joinpath("data/clip/merges.txt.gz").read_bytes()
    merges = _merges(gzip.decompress(packed).decode("utf-8"))
    letters = LETTERS.values()
    pieces = [*letters, *(f"{letter}</w>" for letter in letters), *("".join(pair) for pair in merges)]
    vocabulary = {piece: i for i, piece in enumerate([*pieces, START, END])}
    pad = END if padding is None else list(vocabulary)[padding]
    return _built(vocabulary, merges, {}, {**NAMED, "pad_token": pad}, None)


def _merges(text: str) -> list[tuple[str, str]]:
    """The pairs in a merges file, one a line below its version."""
    pairs = [tuple(line.split(" ")) for line in text.splitlines() if line and not line.startswith("#version")]
    return [(left, right) for left, right in pairs]


def _built(
    vocabulary: Mapping[str, int],
    merges: Sequence[tuple[str, str]],
    added: Mapping[int, AddedToken],
    named: Mapping[str, str | AddedToken],
    folder: Path | None,
) -> Tokenizer:
    """The tokenizer that transformers' `CLIPTokenizer` is, of the same parts.

    Args:
        vocabulary: ids by token.
        merges: which two tokens become one, the first first.
        added: tokens that are found in a text before it is cut, by their ids.
        named: the tokens with a task, as in `NAMED`.
        folder: where all this was read.

    Raises:
        ValueError: an added token cannot have its id.
    """
    model = library.models.BPE(
        dict(vocabulary), list(merges), end_of_word_suffix="</w>", continuing_subword_prefix="",
        unk_token=str(_content(named["unk_token"])),
    )  # fmt: skip
    engine = library.Tokenizer(model)
    spaces = normalizers.Replace(library.Regex(r"\s+"), " ")
    engine.normalizer = normalizers.Sequence([normalizers.NFC(), spaces, normalizers.Lowercase()])
    split = pre_tokenizers.Split(library.Regex(PIECES), behavior="removed", invert=True)
    engine.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    engine.add_tokens([token for _, token in sorted(added.items())])
    known = {token.content for token in added.values()}
    engine.add_special_tokens([token for token in named.values() if _content(token) not in known])
    for number, token in added.items():
        if engine.token_to_id(token.content) != number:
            raise ValueError(f"the added token {token.content!r} cannot have the id {number}")
    numbers = engine.get_vocab()
    start, end, pad = (numbers[_content(named[key])] for key in ("bos_token", "eos_token", "pad_token"))
    engine.post_processor = processors.RobertaProcessing(
        (_content(named["eos_token"]), end), (_content(named["bos_token"]), start), False, False
    )
    return Tokenizer(engine, start, end, pad, folder)


def _content(token: str | AddedToken) -> str:
    return token if isinstance(token, str) else str(token.content)


@cache
def _bytes_of_letters() -> dict[str, int]:
    return {letter: byte for byte, letter in LETTERS.items()}


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


def require_tokenizer(folder: Path) -> None:
    """Refuse a folder that is no tokenizer's, or asks for code, before anything is loaded."""
    code.require_none(folder)
    if not (folder / "tokenizer_config.json").exists():
        raise CheckpointError(f"{folder} has no tokenizer_config.json; give a tokenizer folder.")


def require_text(folder: Path) -> None:
    """Refuse a tokenizer of which a file is something else, as Git LFS pointers are; libraries do not say so."""
    for path in (folder / name for name in FILES):
        if path.exists():
            read_text(path, "a tokenizer's text", CheckpointError)


def load(folder: Path | None, padding: int | None, vocabulary: int, name: str) -> Tokenizer:
    """The tokenizer of a folder, or CLIP's own.

    Args:
        folder: a tokenizer folder, as transformers saves it; None for OpenAI CLIP's vocabulary.
        padding: token id with which CLIP's own pads; None for the end token.
        vocabulary: how many tokens the text encoder knows.
        name: how errors call the model.

    Raises:
        CheckpointError: it cannot be read, has more tokens than the text encoder, or lacks CLIP's special tokens.
    """
    if folder is None:
        if not CLIP_VOCABULARY <= vocabulary <= CLIP_VOCABULARY + SPARE:
            raise CheckpointError(
                f"{name} has a vocabulary of {vocabulary} tokens, not CLIP's {CLIP_VOCABULARY}; "
                "give its own with --tokenizer or --config, or put its config folder next to the file."
            )
        return clip_tokenizer(padding)
    require_tokenizer(folder)
    require_text(folder)
    with explained(f"{folder} cannot be read as a tokenizer"):
        reader = _read(folder)
        ids, ends = reader.ids("a"), [reader.start, reader.end]
    if len(reader) > vocabulary:
        raise CheckpointError(
            f"the tokenizer for {name} has {len(reader)} tokens and its text encoder {vocabulary}, which lacks some; "
            "give the tokenizer that belongs to it."
        )
    if not all(0 <= number < vocabulary for number in (*ids, *ends, reader.pad)) or [ids[0], ids[-1]] != ends:
        raise CheckpointError(
            f"{folder} is a tokenizer without CLIP's start, end and padding tokens; use the model's own."
        )
    return reader


def _read(folder: Path) -> Tokenizer:
    """A tokenizer as transformers saves it; what is wrong with it is any exception."""
    config = _table(folder / "tokenizer_config.json")
    stated = {**NAMED, **_table(folder / "special_tokens_map.json"), **config}
    added = {int(number): _token(token) for number, token in config.get("added_tokens_decoder", {}).items()}
    added |= {number: AddedToken(token) for token, number in _table(folder / "added_tokens.json").items()}
    if (folder / "tokenizer.json").exists():
        whole = library.Tokenizer.from_str(read_text(folder / "tokenizer.json", "a tokenizer", CheckpointError))
        parts = json.loads(whole.to_str())["model"]
        vocabulary, merges = parts["vocab"], [(left, right) for left, right in parts["merges"]]
        added = dict(whole.get_added_tokens_decoder()) | added
    else:
        vocabulary = _table(folder / "vocab.json")
        merges = _merges(read_text(folder / "merges.txt", "merges", CheckpointError))
    named = {key: _token(stated[key]) for key in NAMED}
    known = vocabulary.keys() | {token.content for token in added.values()}
    for token in named.values():
        if token.content not in known:  # else it would have the next number, which is another token's
            raise ValueError(f"{token.content} is none of its tokens")
    return _built(vocabulary, merges, added, named, folder)


def _table(path: Path) -> dict[str, Any]:
    """A JSON object in a file; nothing where there is none."""
    if not path.exists():
        return {}
    table = read_json(read_text(path, "a tokenizer's JSON", CheckpointError))
    if not isinstance(table, dict):
        raise ValueError(f"{path.name} is no table")
    return table


def _token(stated: Any) -> AddedToken:
    """A token as a config states it: its text, or a table with its text and how it is looked for."""
    if isinstance(stated, str):
        return AddedToken(stated, special=True, normalized=False)
    kept = ("single_word", "lstrip", "rstrip", "normalized", "special")
    return AddedToken(stated["content"], **{"special": True, **{key: stated[key] for key in kept if key in stated}})
