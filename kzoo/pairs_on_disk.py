"""Parallel texts that stay on disk: a line is a pair, read and tokenized when its batch is made.

Axis letters: N pairs, B batch.
"""

import mmap
from pathlib import Path

import numpy as np
import tensorflow as tf

from kzoo import batching, checks

_BLOCK = 2**24  # bytes of a file that are looked at together
_SAMPLE = 2000  # pairs whose tokens are counted


class PairsOnDisk:
    """A file of lines "source<TAB>target", UTF-8 and not compressed, with an index in memory.

    The index takes 24 bytes a pair, and is made at some hundred megabytes a second. Lines with no
    tab or an empty side are left out; what follows a second tab is no part of the target.

    Args:
        path: file.

    Attributes:
        left_out: int, lines that are no pairs.

    Raises:
        ValueError: there is no pair in the file.

    """

    def __init__(self, path):
        self.path = Path(path)
        with self.path.open("rb") as file:
            checks.require(file.seek(0, 2) > 0, "must be a file with pairs", path=str(path))
            self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        ends, tabs = self._found(b"\n"), self._found(b"\t")
        if len(ends) == 0 or ends[-1] != len(self._bytes) - 1:
            ends = np.append(ends, len(self._bytes))
        starts = np.append(0, ends[:-1] + 1)
        first = np.searchsorted(tabs, starts)
        tabs = np.append(tabs, [len(self._bytes)] * 2)
        middle, second = tabs[first], np.minimum(tabs[first + 1], ends)
        is_pair = (middle > starts) & (middle + 1 < second) & (middle < ends)
        self.left_out = int((~is_pair).sum())
        self._starts, self._middles, self._ends = (x[is_pair] for x in (starts, middle, second))
        checks.require(len(self._starts), "must be a file with pairs", path=str(path))

    def _found(self, byte):
        """The places of a byte."""
        found, array = [], np.frombuffer(self._bytes, np.uint8)
        for begin in range(0, len(array), _BLOCK):
            found.append(np.flatnonzero(array[begin : begin + _BLOCK] == ord(byte)) + begin)
        return np.concatenate(found)

    def __len__(self):
        return len(self._starts)

    def byte_lengths(self):
        """Bytes of each source and of each target: (N,) int, (N,) int."""
        return self._middles - self._starts, self._ends - self._middles - 1

    def texts(self, rows):
        """The sources and the targets of some rows: list of bytes, list of bytes."""
        spans = [
            (self._starts[rows], self._middles[rows]),
            (self._middles[rows] + 1, self._ends[rows]),
        ]
        return tuple(
            [self._bytes[begin:end].rstrip(b"\r") for begin, end in zip(*span, strict=True)]
            for span in spans
        )


def disk_batches(
    pairs, source_tokenizer, target_tokenizer, batch_tokens, *, max_length, seed=None, start=0
):
    """Makes the dataset of teacher-forcing batches of pairs that stay on disk.

    Batches are planned as by `batching.token_batches`, shuffled and in buckets of length, by the
    tokens that a text has for its bytes on average. A batch may so have some tokens more than asked
    for, and texts are cut at `max_length`.

    Args:
        pairs: PairsOnDisk.
        source_tokenizer, target_tokenizer: of `kzoo.text`.
        batch_tokens: int, tokens of a batch on either side, padding included, about.
        max_length: int, most tokens of a text; of longer ones the rest is cut off.
        seed, start: as in `batching.token_batches`.

    Returns:
        tf.data.Dataset of `({"source", "target"}, labels)` as in `batching.teacher_forcing`.
    """
    checks.at_least(1, max_length=max_length, batch_tokens=batch_tokens)
    tokenizers = source_tokenizer, target_tokenizer
    sample = np.linspace(0, len(pairs) - 1, min(len(pairs), _SAMPLE)).astype(int)
    lengths = []
    both = zip(tokenizers, pairs.texts(sample), pairs.byte_lengths(), strict=True)
    for tokenizer, texts, sizes in both:
        tokens = batching.tokenize(tokenizer, texts).row_lengths().numpy().sum()
        share = tokens / max(sizes[sample].sum(), 1)
        lengths.append(np.clip(np.ceil(sizes * share), 1, max_length).astype(np.int32))

    def read(rows):
        return tuple(np.array(side, object) for side in pairs.texts(rows))

    def gather(rows, number):
        sides = tf.numpy_function(read, [rows], [tf.string, tf.string])
        sides = (tf.ensure_shape(side, [None]) for side in sides)
        ids = (t.tokenize(side)[:, :max_length] for t, side in zip(tokenizers, sides, strict=True))
        return batching.teacher_forcing(*ids)

    return batching.planned_batches(*lengths, batch_tokens, gather, seed, start=start)
