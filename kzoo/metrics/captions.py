"""Scores of captions against several references, as the field counts: BLEU-n, ROUGE-L, CIDEr-D.

    print(cider(["a dog runs"] * 2, [["a dog runs", "the dog ran"], ["a cat sits"]]))
    # CIDEr-D 213.02 (nrefs:var|case:lc|tok:caption|n:4|sigma:6|df:references|version:kzoo 0.1.0
    #   |norm:nfc)

Texts are compared as `tokens` of them: normalized, in lower case, without punctuation. METEOR is
not here: what is published under that name needs Java and tables of synonyms and paraphrases that
no package brings, and the versions without them give other numbers.
"""

import collections
import functools
import importlib.metadata
import math
import re
import sys
import unicodedata

from kzoo.metrics import translation
from kzoo.metrics.score import IDEOGRAPHS, NORMALIZATION, Score, normalized, reference_rows

ROUGE_BETA = 1.2  # recall counts as much as precision ROUGE_BETA ** 2 times
CIDER_ORDER = 4
CIDER_SIGMA = 6.0  # words


def tokens(text):
    """Words in lower case, without punctuation: "The dog's ball, red." -> the dog 's ball red.

    As the Penn Treebank's tokenizer of the COCO evaluation, but for rare cases: 's, 'll, n't and
    their like are words of their own, a hyphen or full stop within a word keeps it one, and a comma
    a number. "&" and "⁇", which stands for an unknown word and so is a wrong one, are words too. A
    letter keeps its marks, as the vowels of Hindi and Thai are; an ideograph or a kana is a word.

    Args:
        text: str.

    Returns:
        list of str.

    Example:
        >>> tokens("A T-shirt, and they don't care!")
        ['a', 't-shirt', 'and', 'they', 'do', "n't", 'care']
    """
    text = normalized(text).lower().replace("\u2019", "'")
    text = re.sub(r"(?<=\w)(n't|'(?:s|re|ve|ll|d|m))(?!\w)", r" \1", text)
    text = re.sub(f"([{IDEOGRAPHS}])", r" \1 ", text)
    return _words().findall(text)


@functools.cache
def _words():
    """The pattern of a word. For `re` a mark is no letter, and ends a word."""
    marks = [c for c in map(chr, range(sys.maxunicode)) if unicodedata.category(c)[0] == "M"]
    letter = rf"[\w{''.join(marks)}\u200c\u200d]"  # with the joiners of Persian and Hindi
    word = rf"\w{letter}*(?:(?:[-'.]|(?<=\d),(?=\d)){letter}+)*"
    return re.compile(rf"'(?:s|re|ve|ll|d|m)(?!\w)|{word}|[&⁇]")


def caption_bleu(hypotheses, references, order=4):
    """BLEU-`order` of `tokens`: `metrics.bleu` of a whole corpus with n-grams up to `order`.

    Args:
        hypotheses: list of N str.
        references: list of N str, or of N lists of str.
        order: int, the longest n-grams.

    Returns:
        metrics.Score "BLEU-1", ..., in percent. A share of n-grams that is 0 is smoothed, which the
        COCO evaluation does not do: it matters for few and short texts only.

    Raises:
        ValueError, ImportError: as `metrics.bleu`.
    """
    rows = reference_rows(hypotheses, references)
    score = translation.bleu(
        [" ".join(tokens(text)) for text in hypotheses],
        [[" ".join(tokens(text)) for text in row] for row in rows],
        tokenize="none",
        force=True,
        order=order,
    )
    signature = score.signature.replace("case:mixed", "case:lc").replace("tok:none", "tok:caption")
    return Score(f"BLEU-{order}", score.value, signature)


def rouge_l(hypotheses, references):
    """ROUGE-L: the mean F = (1 + b^2) P R / (R + b^2 P), b = 1.2, of longest common subsequences.

    Lin (2004), https://aclanthology.org/W04-1013, as the COCO evaluation counts it, Chen et al.
    (2015), https://arxiv.org/abs/1504.00325: with L the length of the longest common subsequence of
    `tokens`, P is the largest L / length of the hypothesis over its references, R the largest L /
    length of a reference, be it of another one. Summaries are scored by other rules.

    Args:
        hypotheses: list of N str.
        references: list of N str, or of N lists of str.

    Returns:
        metrics.Score, in percent.

    Raises:
        ValueError: as `metrics.bleu`.
    """
    rows = reference_rows(hypotheses, references)
    total = 0.0
    for text, row in zip(hypotheses, rows, strict=True):
        words = tokens(text)
        precision = recall = 0.0
        for reference in map(tokens, row):
            common = _common_subsequence(words, reference)
            precision = max(precision, common / max(len(words), 1))
            recall = max(recall, common / max(len(reference), 1))
        if precision > 0:
            weight = ROUGE_BETA**2
            total += (1 + weight) * precision * recall / (recall + weight * precision)
    return _score("ROUGE-L", 100 * total / len(rows), rows, f"beta:{ROUGE_BETA}")


def cider(hypotheses, references):
    """CIDEr-D: how much a caption shares with its references, rare n-grams counting more.

    With g_n(c) the vector of c's n-grams, each its count times log(N / number of hypotheses with
    references that hold it),

        CIDEr-D(c, S) = 10 / 4 sum_{n=1}^4 1 / |S| sum_{s in S} exp(-(|c| - |s|)^2 / (2 sigma^2))
                        (min(g_n(c), g_n(s)) . g_n(s)) / (|g_n(c)| |g_n(s)|)

    Vedantam et al. (2015), https://arxiv.org/abs/1411.5726, section 5, with sigma = 6. A count is
    not divided by the length of the text: so do the authors in their code.

    Args:
        hypotheses: list of N str. N should be large: the frequencies come from these N rows of
            references, and an n-gram that stands in all of them counts nothing.
        references: list of N str, or of N lists of str.

    Returns:
        metrics.Score: the mean times 100, as tables of papers show it, from 0 to 1,000.

    Raises:
        ValueError: as `metrics.bleu`.
    """
    rows = reference_rows(hypotheses, references)
    counts = [[_ngrams(tokens(text)) for text in row] for row in rows]
    frequency = collections.Counter()
    for row in counts:
        frequency.update(set().union(*row))
    # An n-gram that no reference holds weighs as one that a single row does.
    rarity = {ngram: math.log(len(rows) / count) for ngram, count in frequency.items()}
    rarest = math.log(len(rows))
    total = 0.0
    for text, row in zip(hypotheses, counts, strict=True):
        own = _weighted(_ngrams(tokens(text)), rarity, rarest)
        others = [_weighted(reference, rarity, rarest) for reference in row]
        total += sum(_likeness(own, other) for other in others) / len(others)
    settings = f"n:{CIDER_ORDER}|sigma:{CIDER_SIGMA:g}|df:references"
    return _score("CIDEr-D", 1000 * total / len(rows), rows, settings)


def distinct_captions(hypotheses):
    """The share in percent of different captions among the hypotheses, compared as `tokens`.

    Args:
        hypotheses: list of N str.

    Returns:
        metrics.Score.

    Raises:
        ValueError: no texts.

    Example:
        >>> distinct_captions(["A dog.", "a dog", "a cat", "a cat"]).value
        50.0
    """
    reference_rows(hypotheses, hypotheses)
    different = {tuple(tokens(text)) for text in hypotheses}
    value = 100 * len(different) / len(hypotheses)
    return Score("distinct", value, f"texts:{len(hypotheses)}|case:lc|tok:caption|{NORMALIZATION}")


def novel_captions(hypotheses, training):
    """The share in percent of hypotheses that are no caption of the training, as `tokens`.

    Args:
        hypotheses: list of N str.
        training: iterable of str, all captions of the training.

    Returns:
        metrics.Score.

    Raises:
        ValueError: no texts.

    Example:
        >>> novel_captions(["A dog.", "a cat"], ["a dog", "two cats"]).value
        50.0
    """
    reference_rows(hypotheses, hypotheses)
    known = {tuple(tokens(text)) for text in training}
    novel = sum(tuple(tokens(text)) not in known for text in hypotheses)
    value = 100 * novel / len(hypotheses)
    return Score("novel", value, f"texts:{len(hypotheses)}|case:lc|tok:caption|{NORMALIZATION}")


def _common_subsequence(one, other):
    """The length of the longest common subsequence of two lists."""
    row = [0] * (len(other) + 1)
    for word in one:
        before, row = row, [0]
        for index, other_word in enumerate(other):
            longest = max(row[-1], before[index + 1])
            row.append(before[index] + 1 if word == other_word else longest)
    return row[-1]


def _ngrams(words):
    """Counter of the n-grams of all orders, as tuples."""
    return collections.Counter(
        tuple(words[start : start + order])
        for order in range(1, CIDER_ORDER + 1)
        for start in range(len(words) - order + 1)
    )


def _weighted(ngrams, rarity, rarest):
    """(one vector {n-gram: weight} for each order, their norms, number of words)."""
    vectors = [{} for _ in range(CIDER_ORDER)]
    for ngram, count in ngrams.items():
        vectors[len(ngram) - 1][ngram] = count * rarity.get(ngram, rarest)
    norms = [math.hypot(*vector.values()) for vector in vectors]
    return vectors, norms, sum(count for ngram, count in ngrams.items() if len(ngram) == 1)


def _likeness(own, other):
    """The mean over the orders of clipped cosines, times the penalty of unequal lengths."""
    cosines = 0.0
    for vector, norm, other_vector, other_norm in zip(*own[:2], *other[:2], strict=True):
        product = sum(
            min(weight, other_vector.get(ngram, 0.0)) * other_vector.get(ngram, 0.0)
            for ngram, weight in vector.items()
        )
        cosines += product / (norm * other_norm) if norm and other_norm else 0.0
    return cosines / CIDER_ORDER * math.exp(-((own[2] - other[2]) ** 2) / (2 * CIDER_SIGMA**2))


def _score(name, value, rows, settings):
    counts = {len(row) for row in rows}
    count = counts.pop() if len(counts) == 1 else "var"
    version = importlib.metadata.version("kzoo")
    return Score(
        name,
        value,
        f"nrefs:{count}|case:lc|tok:caption|{settings}|version:kzoo {version}|{NORMALIZATION}",
    )
