"""Files of byte-level vocabularies: tokenizer.json, vocab.json with merges.txt, tiktoken's ranks.

V rows of a published table.
"""

import base64
import binascii
import json
import pathlib
from typing import NamedTuple

import numpy as np

from kzoo.text.bytes import byte_alphabet
from kzoo.text.special_ids import SPECIAL_TOKENS


class ByteVocabulary(NamedTuple):
    """A vocabulary as its files have it."""

    pieces: dict  # piece in the signs of `byte_alphabet` -> row
    merges: list  # of str such as "Ġ t", the first ones first
    specials: dict  # name such as "<|endoftext|>" -> row


def read_byte_vocabulary(path):
    """Reads a file, or what a folder has of them.

    Args:
        path: a folder, a tokenizer.json, a vocab.json with merges.txt beside it, or a file of
            tiktoken, a line of base64 and rank for each piece. That has no special tokens; its
            merges are all pairs that give a piece, as tiktoken merges whatever gives the first one.

    Returns:
        ByteVocabulary.

    Raises:
        ValueError: a file is missing, or has another format.
    """
    path = pathlib.Path(path)
    if path.suffix == ".tiktoken":
        return _of_ranks(path)
    folder = path if path.is_dir() else path.parent
    if (path.is_dir() and (path / "tokenizer.json").exists()) or path.name == "tokenizer.json":
        return _of_tokenizer(folder / "tokenizer.json")
    missing = [name for name in ("vocab.json", "merges.txt") if not (folder / name).exists()]
    if missing:
        raise ValueError(
            f"{folder}: a byte-level vocabulary needs tokenizer.json, or vocab.json and "
            f"merges.txt, or a file *.tiktoken, got none of them, or no {missing[0]}."
        )
    pieces = _json(folder / "vocab.json")
    lines = (folder / "merges.txt").read_text(encoding="utf-8").split("\n")
    merges = [line for line in lines if line and not line.startswith("#version")]
    specials = {}
    if (folder / "added_tokens.json").exists():
        specials = _json(folder / "added_tokens.json")
    return _apart(pieces, merges, specials)


def permutation(size, start, end, text_size=None):
    """Which row of a published table each id of kzoo has.

    Args:
        size: int, V, rows of the table.
        start, end: int, the rows of what a target begins and ends with.
        text_size: int: rows below it are texts, but for start and end; the others are special
            tokens. They follow, so the order stays as it is. None for V.

    Returns:
        rows: (V + 2,) int array: -1 for padding and unknown, which have none. first_special: int.

    Raises:
        ValueError: a row is outside of the table.
    """
    if not (0 <= start < size and 0 <= end < size and start != end):
        raise ValueError(
            "`start` and `end` must be different rows of the table, "
            f"got start={start}, end={end}, size={size}."
        )
    others = [row for row in range(size) if row not in (start, end)]
    texts = len([row for row in others if row < (size if text_size is None else text_size)])
    return np.array([-1, start, end, -1, *others]), len(SPECIAL_TOKENS) + texts


def _of_tokenizer(path):
    data = _json(path)
    model = data.get("model", {})
    if model.get("type", "BPE") != "BPE" or "merges" not in model:
        raise ValueError(f"{path}: expected a BPE model with merges, got {model.get('type')!r}.")
    if "ByteLevel" not in json.dumps(data.get("decoder")):
        raise ValueError(f"{path}: expected a byte-level tokenizer, got {data.get('decoder')!r}.")
    merges = [each if isinstance(each, str) else " ".join(each) for each in model["merges"]]
    specials = {each["content"]: each["id"] for each in data.get("added_tokens", [])}
    return _apart(model["vocab"], merges, specials)


def _apart(pieces, merges, specials):
    """Special tokens may stand among the pieces, too."""
    alphabet = set(byte_alphabet())
    of_words = {part for merge in merges for part in merge.split(" ")} | alphabet
    of_words |= {merge.replace(" ", "") for merge in merges}
    known = {piece: row for piece, row in pieces.items() if piece in of_words}
    named = {piece: row for piece, row in pieces.items() if piece not in of_words}
    return ByteVocabulary(known, merges, {**named, **specials})


def _of_ranks(path):
    signs = byte_alphabet()
    pieces = {}
    for number, line in enumerate(path.read_bytes().split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            token, rank = line.split()
            # The empty piece, which OpenAI's multilingual file has, stands there as "=".
            token = b"" if token == b"=" else base64.b64decode(token, validate=True)
            pieces["".join(signs[byte] for byte in token)] = int(rank)
        except (ValueError, binascii.Error):
            raise ValueError(
                f"{path}, line {number}: expected base64 and a rank, got {line[:40]!r}."
            ) from None
    merges = []
    for piece in sorted(pieces, key=pieces.get):
        pairs = [(piece[:cut], piece[cut:]) for cut in range(1, len(piece))]
        pairs = [pair for pair in pairs if pair[0] in pieces and pair[1] in pieces]
        pairs.sort(key=lambda pair: (pieces[pair[0]], pieces[pair[1]]))
        merges += [" ".join(pair) for pair in pairs]
    return ByteVocabulary(pieces, merges, {})


def _json(path):
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: expected a JSON file. {error}") from None
    if not isinstance(data, dict):
        raise ValueError(f"{path}: expected a JSON object, got a {type(data).__name__}.")
    return data
