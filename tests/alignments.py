"""CTC by the enumeration of all alignments, in numpy."""

import itertools
from collections import defaultdict

import numpy as np


def log_softmax(logits):
    logits = np.asarray(logits, np.float64)
    return logits - np.logaddexp.reduce(logits, -1, keepdims=True)


def collapsed(names):
    """What a sequence of names stands for, and the frames where its tokens begin."""
    before = (0, *names)
    kept = [t for t, name in enumerate(names) if name and name != before[t]]
    return tuple(names[t] for t in kept)


def enumerated(logits):
    """log p of every output of one row (S, V): the sum over its alignments."""
    log_p = log_softmax(logits)
    found = defaultdict(lambda: -np.inf)
    for names in itertools.product(range(log_p.shape[1]), repeat=len(log_p)):
        log_prob = sum(log_p[t, name] for t, name in enumerate(names))
        found[collapsed(names)] = np.logaddexp(found[collapsed(names)], log_prob)
    return found


def random_logits(seed, *shape, scale=2.0):
    return np.random.default_rng(seed).normal(0, scale, shape).astype("float32")
