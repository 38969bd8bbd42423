"""A step function that reads its answers from a table, for the tests of everything that searches.

The table has one row per sentence and prefix: the prefix y1..yt has the code
V^t + sum of yi V^(t-i), which the state carries.
"""

import numpy as np
import tensorflow as tf

from kzoo.search import SearchResult, beam_search

SOURCE_STEPS = 7


class Script:
    """Random conditional distributions over all prefixes, for B sentences."""

    def __init__(self, seed, sentences, vocabulary_size, max_length, impossible=0.0):
        random = np.random.default_rng(seed)
        codes = 2 * vocabulary_size ** (max_length - 1)
        self.vocabulary_size, self.max_length = vocabulary_size, max_length
        self.logits = random.normal(0, 2, (sentences, codes, vocabulary_size)).astype(np.float32)
        self.logits[random.random(self.logits.shape) < impossible] = -np.inf
        self.weights = random.random((sentences, codes, SOURCE_STEPS)).astype(np.float32)
        self.start_ids = np.ones(sentences, np.int32)

    def state(self):
        sentences = len(self.logits)
        return {"code": np.ones(sentences, np.int32), "sentence": np.arange(sentences)}

    def step(self, ids, state, position):
        longer = state["code"] * self.vocabulary_size + ids
        code = tf.where(position > 0, longer, state["code"])
        place = tf.stack([tf.cast(state["sentence"], tf.int32), code], axis=1)
        logits, weights = tf.gather_nd(self.logits, place), tf.gather_nd(self.weights, place)
        return logits, weights, {"code": code, "sentence": state["sentence"]}

    def log_softmax(self, sentence, code):
        logits = self.logits[sentence, code].astype(np.float64)
        if np.all(np.isneginf(logits)):
            return logits
        return logits - np.logaddexp.reduce(logits)

    def code(self, prefix):
        code = 1
        for token in prefix:
            code = code * self.vocabulary_size + token
        return code

    def log_prob(self, sentence, ids):
        return sum(
            self.log_softmax(sentence, self.code(ids[:t]))[token] for t, token in enumerate(ids)
        )

    def run(self, search, **options):
        """The result of a search as numpy arrays."""
        options = {"end_id": 1, "max_length": self.max_length, **options}
        found = search(self.step, self.state(), self.start_ids, **options)
        return SearchResult(*(np.asarray(tensor) for tensor in found))

    def search(self, beam_size, **options):
        return self.run(beam_search, beam_size=beam_size, **options)
