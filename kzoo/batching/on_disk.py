"""Parallel texts that stay on disk: a line is a pair, read and tokenized when its batch is made.

Axis letters: N pairs, B batch.
"""

import os
from pathlib import Path

import numpy as np
import tensorflow as tf

from kzoo import checks
from kzoo.batching.corpus import tokenize
from kzoo.batching.labels import teacher_forcing
from kzoo.batching.passes import planned_batches

_BLOCK = 2**24  # bytes of a file that are looked at together
_SAMPLE = 2000  # pairs whose tokens are counted


class PairsOnDisk:
    """A file of lines "source<TAB>target", UTF-8 and not compressed, with an index in memory.

    The index takes 16 bytes a pair, 20 where lines are left out, and is made at some hundred
    megabytes a second. Lines with no tab or an empty side are left out; what follows a second tab
    is no part of the target.

    Args:
        path: file.

    Attributes:
        left_out: int, lines that are no pairs.

    Raises:
        ValueError: there is no pair in the file.

    """

    def __init__(self, path):
        self.path = Path(path)
        self._file = self.path.open("rb", buffering=0)
        size = os.fstat(self._file.fileno()).st_size
        ends, tabs, returns = self._places_of(b"\n", b"\t", b"\r")
        if size and (len(ends) == 0 or ends[-1] != size - 1):
            ends = np.append(ends, size)
        starts = np.append(0, ends[:-1] + 1)[: len(ends)]
        ends = ends - np.isin(ends - 1, returns, assume_unique=True)  # lines may end in "\r\n"
        first = np.searchsorted(tabs, starts)
        tabs = np.append(tabs, [size] * 2)
        middles, ends = tabs[first], np.minimum(tabs[first + 1], ends)
        is_pair = (middles > starts) & (middles + 1 < ends)
        self.left_out = int((~is_pair).sum())
        checks.require(is_pair.any(), "must be a file with pairs", path=str(path))
        # If no line is left out, row n is line n.
        self._lines = np.flatnonzero(is_pair).astype(np.uint32) if self.left_out else None
        self._starts = starts[is_pair]
        self._source_sizes = (middles - starts)[is_pair].astype(np.int32)
        self._target_sizes = (ends - middles - 1)[is_pair].astype(np.int32)

    def __del__(self):
        if hasattr(self, "_file"):
            self._file.close()

    def _places_of(self, *signs):
        """The places of each of some bytes in the file."""
        found, begin = [[np.zeros(0, int)] for _ in signs], 0
        while block := self._file.read(_BLOCK):
            array = np.frombuffer(block, np.uint8)
            for places, sign in zip(found, signs, strict=True):
                places.append(np.flatnonzero(array == ord(sign)) + begin)
            begin += len(block)
        return [np.concatenate(places) for places in found]

    def __len__(self):
        return len(self._starts)

    def byte_lengths(self):
        """Bytes of each source and of each target: (N,) int, (N,) int."""
        return self._source_sizes, self._target_sizes

    def names(self, rows):
        """ "file:line" of some rows: list of str."""
        lines = rows if self._lines is None else self._lines[rows]
        return [f"{self.path}:{line + 1}" for line in map(int, lines)]

    def texts(self, rows):
        """The sources and the targets of some rows: list of bytes, list of bytes."""
        sources, targets = [], []
        for row in rows:
            size = int(self._source_sizes[row])
            count = size + 1 + int(self._target_sizes[row])
            line = os.pread(self._file.fileno(), count, int(self._starts[row]))
            sources.append(line[:size])
            targets.append(line[size + 1 :])
        return sources, targets


def disk_batches(
    pairs,
    source_tokenizer,
    target_tokenizer,
    batch_tokens,
    *,
    max_length,
    seed=None,
    start=0,
    named=False,
):
    """Makes the dataset of teacher-forcing batches of pairs that stay on disk.

    Batches are planned as by `token_batches`, shuffled and in buckets of length, by the
    tokens that a text has for its bytes on average. A batch may so have some tokens more than asked
    for, and texts are cut at `max_length`. Pairs with a side of white space alone, or of bytes that
    are not UTF-8, are left out of their batch, unless they are all that it has.

    Args:
        pairs: PairsOnDisk.
        source_tokenizer, target_tokenizer: of `kzoo.text`.
        batch_tokens: int, tokens of a batch on either side, padding included, about.
        max_length: int, most tokens of a text; of longer ones the rest is cut off.
        seed, start: as in `token_batches`.
        named: bool, whether the inputs hold file and line of each pair as "name" (B,), too.

    Returns:
        tf.data.Dataset of `({"source", "target"}, labels)` as in `teacher_forcing`.
    """
    checks.integer(1, max_length=max_length, batch_tokens=batch_tokens)
    tokenizers = source_tokenizer, target_tokenizer
    sample = np.linspace(0, len(pairs) - 1, min(len(pairs), _SAMPLE)).astype(int)
    lengths = []
    both = zip(tokenizers, pairs.texts(sample), pairs.byte_lengths(), strict=True)
    for tokenizer, texts, sizes in both:
        tokens = tokenize(tokenizer, texts).row_lengths().numpy().sum()
        share = tokens / max(sizes[sample].sum(), 1)
        lengths.append(np.clip(np.ceil(sizes * share), 1, max_length).astype(np.int32))

    def read(rows):
        names = pairs.names(rows) if named else [""] * len(rows)
        found = list(zip(*pairs.texts(rows), names, strict=True))
        texts = [each for each in found if all(map(_is_text, each[:2]))] or found
        return tuple(np.array(column, object) for column in zip(*texts, strict=True))

    def gather(rows, number):
        columns = tf.numpy_function(read, [rows], [tf.string] * 3)
        *sides, names = (tf.ensure_shape(column, [None]) for column in columns)
        ids = (t.tokenize(side)[:, :max_length] for t, side in zip(tokenizers, sides, strict=True))
        return teacher_forcing(*ids, names=names if named else None)

    return planned_batches(*lengths, batch_tokens, gather, seed, start=start)


def _is_text(side):
    try:
        return bool(side.decode().strip())
    except UnicodeDecodeError:
        return False
