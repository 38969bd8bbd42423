"""Subword sampling: a text is cut into subwords in another way whenever it is read.

N texts, T tokens. SentencePiece samples, too, but from its release 0.2.2 on a seed gives other
draws in every process, and no training could be resumed as it was.
"""

import bisect
import functools
import itertools
import math
import random
import re
import struct

import numpy as np

from kzoo import checks, protos
from kzoo.text.subwords import SubwordTokenizer

SPACE = "▁"
NORMAL, UNUSED = 1, 5  # SentencePiece's kinds of pieces; the others stay as they are
UNIGRAM, BPE = 1, 2  # its kinds of models
_WORDS = 50_000  # most of which the ways through are kept, a kilobyte or two each
_LETTERS = 20  # of such a word, at most: whole sentences hardly come again


class SampledSubwords:
    """Texts of a training whose ids are drawn anew for every batch; `batching` takes it for ids.

    A model that sees a word cut in many ways learns of its parts, and no single cut by heart. With
    byte-pair encoding, alpha is the probability that a merge is left out (BPE-dropout, Provilkov et
    al. 2020, https://arxiv.org/abs/1910.13267, section 3; they have 0.1). With a unigram model

        P(segmentation) ~ p(segmentation)^alpha

    over all segmentations (subword regularization, Kudo 2018, https://arxiv.org/abs/1804.10959,
    section 3.3). The texts are those that the ids say. Tags of languages and unknown characters
    keep their ids. A text that gets too long keeps all of its ids in this draw. The same seed gives
    the same draws.

    Args:
        tokenizer: SubwordTokenizer.
        ids: (N, None) ragged int32, from its `tokenize`: the lengths that batches are planned by.
        alpha: float in (0, 1), see above.
        longest: int, most tokens that a text may be cut into; None for no limit.
        seed: int or list of int.

    Raises:
        ValueError: `tokenizer` is none of subwords, or `alpha` outside (0, 1).
    """

    def __init__(self, tokenizer, ids, alpha, longest=None, seed=0):
        checks.require(0 < alpha < 1, "must lie between 0 and 1", alpha=alpha)
        checks.require(
            isinstance(tokenizer, SubwordTokenizer),
            "must be a SubwordTokenizer",
            tokenizer=tokenizer,
        )
        model, self._pieces = read_model(tokenizer.proto)
        scores = {text: score for text, score, kind in self._pieces if kind == NORMAL}
        crosses = any(SPACE in text[1:] for text in scores)
        self._words = re.compile(".+" if crosses else f"{SPACE}?[^{SPACE}]+|{SPACE}", re.DOTALL)
        self._cut = BPEDropout(scores, alpha) if model == BPE else UnigramSampling(scores, alpha)
        self._id_of = {text: id_ for id_, (text, _, _) in enumerate(self._pieces)}
        self._ids = ids
        self._seed = np.atleast_1d(seed).tolist()
        self._flat, self._ends = ids.flat_values.numpy(), ids.row_splits.numpy()
        self._longest = math.inf if longest is None else longest

    def row_lengths(self):
        """(N,) int64, of the ids as they came."""
        return self._ids.row_lengths()

    def nrows(self):
        """N, scalar int64."""
        return self._ids.nrows()

    def draw(self, rows, number):
        """The ids of some texts, drawn anew.

        Args:
            rows: (B,) int. number: (2,) int, of the draw; the same draws the same.

        Returns:
            (M,) int32, the ids of all one after the other. (B,) int64, how many each has.
        """
        seed = np.random.SeedSequence([*self._seed, *np.asarray(number).tolist()])
        rng = random.Random(int(seed.generate_state(1, np.uint64)[0]))
        drawn = [
            self._drawn(self._flat[self._ends[row] : self._ends[row + 1]], rng) for row in rows
        ]
        lengths = np.array([len(each) for each in drawn], np.int64)
        return np.concatenate([[], *drawn]).astype(np.int32), lengths

    def _drawn(self, ids, rng):
        """Other ids of the same text, or the same."""
        found = []
        for is_fixed, run in itertools.groupby(ids.tolist(), self._is_fixed):
            if is_fixed:
                found += run
                continue
            for word in self._words.findall("".join(self._pieces[id_][0] for id_ in run)):
                for piece in self._cut(word, rng):
                    if (id_ := self._id_of.get(piece)) is None:  # a character without a piece
                        return ids
                    found.append(id_)
        return ids if len(found) > self._longest else found

    def _is_fixed(self, id_):
        return self._pieces[id_][2] not in (NORMAL, UNUSED)


class BPEDropout:
    """Byte-pair encoding that leaves out each possible merge, at each step, with probability alpha.

    Provilkov et al. (2020), algorithm 1: of the merges that are left the one learnt first is done,
    until none is left.

    Args:
        scores: dict from piece to the score of its merge; higher is earlier.
        alpha: float.
    """

    def __init__(self, scores, alpha):
        self._scores, self._alpha = scores, alpha

    def __call__(self, word, rng):
        """Word, random.Random -> list of pieces, which together are the word."""
        pieces = list(word)
        while True:
            merges = [
                (score, -place)
                for place, pair in enumerate(itertools.pairwise(pieces))
                if (score := self._scores.get("".join(pair))) is not None
                and rng.random() >= self._alpha
            ]
            if not merges:
                return pieces
            place = -max(merges)[1]
            pieces[place : place + 2] = ["".join(pieces[place : place + 2])]


class UnigramSampling:
    """Draws a segmentation with P ~ p^alpha: weights forwards, and pieces backwards from the end.

    Args:
        scores: dict from piece to log p.
        alpha: float.
    """

    def __init__(self, scores, alpha):
        self._logits = {piece: alpha * score for piece, score in scores.items()}
        self._longest = max(map(len, scores))
        self._ways = functools.lru_cache(_WORDS)(self._all_ways)

    def __call__(self, word, rng):
        """Word, random.Random -> list of pieces, which together are the word."""
        pieces, end = [], len(word)
        ways = self._ways(word) if end <= _LETTERS else self._all_ways(word)
        while end:
            starts, sums = ways[end]
            if not sums:
                return [word]  # no pieces make it up
            place = bisect.bisect_right(sums, rng.random() * sums[-1])
            start = starts[min(place, len(starts) - 1)]
            pieces.append(word[start:end])
            end = start
        return pieces[::-1]

    def _all_ways(self, word):
        """For each end of a prefix: where its last piece may start, and the running sums of the
        weights of all ways to get there so, in times of the largest."""
        total, ways = [0.0], [([], [])]
        for end in range(1, len(word) + 1):
            found = {}  # {start: log of the weight}
            for start in range(max(0, end - self._longest), end):
                logit = self._logits.get(word[start:end], -math.inf) + total[start]
                if logit > -math.inf:
                    found[start] = logit
            most = max(found.values(), default=-math.inf)
            sums = list(itertools.accumulate(math.exp(each - most) for each in found.values()))
            ways.append((list(found), sums))
            total.append(most + math.log(sums[-1]) if sums else -math.inf)
        return ways


def read_model(proto):
    """The kind of a SentencePiece model, and (text, score, kind) of each of its pieces.

    https://github.com/google/sentencepiece/blob/master/src/sentencepiece_model.proto
    """
    model, pieces = UNIGRAM, []
    for number, field in protos.fields(proto):
        if number == 2:  # ModelProto.trainer_spec
            spec = protos.fields(protos.content(field))
            model = next((value[1] for n, value in spec if n == 3), model)  # its model_type
        if number == 1:  # ModelProto.pieces
            values = dict(protos.fields(protos.content(field)))
            text = protos.content(values[1]).decode()
            (score,) = struct.unpack("<f", values[2][1:]) if 2 in values else (0.0,)
            pieces.append((text, score, values[3][1] if 3 in values else NORMAL))
    return model, pieces
