"""Subword sampling: a text is cut into subwords in another way whenever it is read.

N texts, T tokens.
"""

import threading

import numpy as np
import tensorflow as tf

from kzoo import checks
from kzoo.text.special_ids import UNKNOWN_ID
from kzoo.text.subwords import SubwordTokenizer, import_sentencepiece

_SEEDED = threading.Lock()  # SentencePiece has one seed for the whole process


class SampledSubwords:
    """Texts of a training whose ids are drawn anew for every batch; `batching` takes it for ids.

    A model that sees a word cut in many ways learns of its parts, and no single cut by heart. With
    byte-pair encoding, alpha is the probability that a merge is left out (BPE-dropout, Provilkov et
    al. 2020, https://arxiv.org/abs/1910.13267, section 3; they have 0.1). With a unigram model

        P(segmentation) ~ p(segmentation)^alpha

    over all segmentations, or over the `nbest` likeliest (subword regularization, Kudo 2018,
    https://arxiv.org/abs/1804.10959, section 3.3). The texts are those that the ids say. One with
    an unknown character keeps its ids, and so does, for this once, one that gets too long. The same
    seed gives the same draws with the same release of the sentencepiece package, which draws.

    Args:
        tokenizer: SubwordTokenizer.
        ids: (N, None) ragged int32, from its `tokenize`: the lengths that batches are planned by.
        alpha: float in (0, 1), see above.
        nbest: int, of a unigram model; -1 for all.
        longest: int, most tokens that a text may be cut into; None for no limit.
        seed: int or list of int.

    Raises:
        ValueError: `tokenizer` is none of subwords, `alpha` outside (0, 1), or `nbest` 0 or 1.
        ImportError: the sentencepiece package is missing.
    """

    def __init__(self, tokenizer, ids, alpha, nbest=-1, longest=None, seed=0):
        checks.require(0 < alpha < 1, "must lie between 0 and 1", alpha=alpha)
        checks.require(nbest not in (0, 1), "must be -1 or at least 2", nbest=nbest)
        checks.require(
            isinstance(tokenizer, SubwordTokenizer),
            "must be a SubwordTokenizer",
            tokenizer=tokenizer,
        )
        self._sentencepiece = import_sentencepiece()
        self._model = self._sentencepiece.SentencePieceProcessor(model_proto=tokenizer.proto)
        self._options = {"enable_sampling": True, "alpha": alpha, "nbest_size": nbest}
        self._ids = ids
        self._seed = np.atleast_1d(seed).tolist()
        self._flat, self._ends = ids.flat_values.numpy(), ids.row_splits.numpy()
        self._texts = [text.decode() for text in tokenizer.detokenize(ids).numpy()]
        is_known = ~tf.reduce_any(ids == UNKNOWN_ID, 1).numpy()
        self._is_known = is_known.tolist()
        self._longest = np.inf if longest is None else longest

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
        texts = [self._texts[row] for row in rows]
        with _SEEDED:
            self._sentencepiece.set_random_generator_seed(int(seed.generate_state(1)[0]))
            # Its one thread is new, and begins with the seed.
            drawn = self._model.encode(texts, num_threads=1, **self._options)
        for place, row in enumerate(rows):
            if not self._is_known[row] or len(drawn[place]) > self._longest:
                drawn[place] = self._flat[self._ends[row] : self._ends[row + 1]]
        lengths = np.array([len(each) for each in drawn], np.int64)
        return np.concatenate([[], *drawn]).astype(np.int32), lengths
