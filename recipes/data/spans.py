"""Extractive targets: the words of a document that say most of its summary, in the summary's place.

    splits = extractive(splits)               # of train alone

A model that copies learns from them in a few passes what is worth copying, where summaries written
freely would need many documents (Nallapati et al. 2017, https://arxiv.org/abs/1611.04230, section
3, choose whole sentences so).
"""

import dataclasses
import re
from collections import Counter

from recipes.data.files import progress
from recipes.data.splits import Splits

LEAST, MOST = 4, 9  # words of a run
READ = 200  # first words of a document that are looked at
NEAR = 0.25  # least F1 of a run; without such a one the first words are taken
HELP = (
    "train on the run of 4 to 9 words of each document that shares most words with its summary, in "
    "the summary's place: for few documents whose summaries take words from them"
)


def nearest_run(document: str, summary: str) -> str | None:
    """The run of `LEAST` to `MOST` words with the best F1 against the words of the summary.

    Capitals and signs do not count; of equals it is the first. None if the best F1 is below `NEAR`.
    """
    words = document.split()[:READ]
    plain = [_plain(word) for word in words]
    wanted = Counter(_plain(summary))
    best, found = NEAR, None
    for start in range(len(words)):
        run: Counter[str] = Counter()
        for end in range(start + 1, min(start + MOST, len(words)) + 1):
            run.update(plain[end - 1])
            shared = sum((run & wanted).values())
            score = 2 * shared / max(run.total() + wanted.total(), 1)
            is_better = score > best or (found is None and score == best)
            if end - start >= LEAST and is_better:
                best, found = score, " ".join(words[start:end])
    return found


def extractive(splits: Splits) -> Splits:
    """The splits with runs of words as targets of `train`; says how many are the first words."""
    train, targets, firsts = splits.train, [], 0
    both = list(zip(train.source, train.target, strict=True))
    for document, summary in progress(both, "Looking for the nearest words, document"):
        run = nearest_run(document, summary)
        firsts += run is None
        targets.append(run or " ".join(document.split()[:MOST]))
    print(
        f"{len(targets):,} summaries are runs of {LEAST} to {MOST} words of their documents now, "
        f"{firsts:,} of them the first ones",
        flush=True,
    )
    return splits._replace(train=dataclasses.replace(train, target=targets))


def _plain(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())
