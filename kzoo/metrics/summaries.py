"""Scores of summaries: ROUGE by rouge-score, with intervals; how much is copied; baselines.

    scores = rouge(answers, references)         # {"ROUGE-1": Score, "ROUGE-2": ..., "ROUGE-L": ...}
    print(scores["ROUGE-L"])
    # ROUGE-L 27.65 [27.31, 28.00] (nrefs:1|case:lc|tok:rouge|stem:no|f:mean|bootstrap:1000|seed:0
    #   |version:rouge-score 0.1.2|norm:nfc)
    print(novel_bigrams(answers, documents), copied_share(answers, documents))
    rouge(lead_words(documents, 10), references)                 # what a model is to be better than

Axis letters: N documents.
"""

import importlib.metadata
import re
import unicodedata

import numpy as np

from kzoo import checks
from kzoo.metrics.score import IDEOGRAPHS, NORMALIZATION, Score, compared, reference_count

KINDS = {"ROUGE-1": "rouge1", "ROUGE-2": "rouge2", "ROUGE-L": "rougeL"}
TOKENIZERS = ("rouge", "unicode")
_IDEOGRAPH = re.compile(f"[{IDEOGRAPHS}]")
UNKNOWN, UNKNOWN_WORD = "\u2047", " zzunknownzz "  # a word that is none, and so a wrong one
LATIN_SHARE = 0.95  # of the letters: with less, "rouge" would drop too much
SENTENCE_END = re.compile(r"(?<=[.!?])[\"')\]]*\s+(?=[^a-z\s])|(?<=[\u3002\uff01\uff1f])\s*(?=\S)")


def rouge(hypotheses, references, tokenize="rouge", stem=False, resamples=1000, seed=0):
    """ROUGE-1, ROUGE-2 and ROUGE-L: the mean F = 2 P R / (P + R) over the documents.

    Lin (2004), https://aclanthology.org/W04-1013. P and R are the shares of the n-grams, or of the
    longest common subsequence, in hypothesis and reference. Of several references the one with the
    best F counts, for each score by itself. The interval holds 95 % of the means of `resamples`
    draws of as many documents with replacement (percentile bootstrap).

    Args:
        hypotheses: list of N str.
        references: list of N str, or of N lists of str.
        tokenize: "rouge" for the tokens of ROUGE: runs of a-z and 0-9 in lower case, so letters
            with accents part words and other scripts vanish. "unicode" for runs of letters, digits
            and their marks of any script; ideographs and kana are one each.
        stem: bool, whether Porter's stemmer shortens the words: English, with "rouge" only.
        resamples: int, draws of the bootstrap.
        seed: int, of the bootstrap.

    Returns:
        dict of "ROUGE-1", "ROUGE-2", "ROUGE-L" to Score in percent, with its `interval`.

    Raises:
        ValueError: as `bleu`; `tokenize` is neither, or does not go with `stem`; or `resamples` is
            not positive.
        ImportError: the rouge-score package is missing.
    """
    values = rouge_values(hypotheses, references, tokenize, stem)
    rows = compared(hypotheses, references)[1]
    version = importlib.metadata.version("rouge-score")
    signature = (
        f"nrefs:{reference_count(rows)}|case:lc|tok:{tokenize}|stem:{'porter' if stem else 'no'}"
        f"|f:mean|bootstrap:{resamples}|seed:{seed}|version:rouge-score {version}|{NORMALIZATION}"
    )
    return {
        name: Score(name, float(each.mean()), signature, bootstrap_interval(each, resamples, seed))
        for name, each in values.items()
    }


def rouge_values(hypotheses, references, tokenize="rouge", stem=False):
    """The F of each document, of which `rouge` gives the means.

    Args, Raises: as `rouge`.

    Returns:
        dict of "ROUGE-1", "ROUGE-2", "ROUGE-L" to (N,) float64 array, in percent.
    """
    hypotheses, rows = compared(hypotheses, references)
    checks.one_of(TOKENIZERS, tokenize=tokenize)
    checks.require(not stem or tokenize == "rouge", 'must be False but for "rouge"', stem=stem)
    scorer = _scorer([*KINDS.values()], tokenize, stem)
    found = [scorer.score_multi(row, text) for text, row in zip(hypotheses, rows, strict=True)]
    return {
        name: np.array([100 * scores[kind].fmeasure for scores in found])
        for name, kind in KINDS.items()
    }


def bootstrap_interval(values, resamples=1000, seed=0):
    """The 95 % percentile interval of a mean: Efron (1979), https://doi.org/10.1214/aos/1176344552.

    Of the differences of two systems' `rouge_values` it says whether one is better: 0 is outside.

    Args:
        values: (N,) numbers, one for each document.
        resamples: int, means of N draws with replacement.
        seed: int.

    Returns:
        (low, high), floats.

    Raises:
        ValueError: there is no value, or `resamples` is not positive.
    """
    values = np.asarray(values, np.float64)
    checks.require(values.size > 0, "must hold at least one number", values=values)
    checks.at_least(1, resamples=resamples)
    rng = np.random.default_rng(seed)
    means = [values[rng.integers(len(values), size=len(values))].mean() for _ in range(resamples)]
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def rouge_tokenizer(texts):
    """ "rouge" if nearly all letters of the texts are those of English, else "unicode".

    Args:
        texts: iterable of str.

    Returns:
        str, for the argument `tokenize` of `rouge`.
    """
    letters = english = 0
    for text in texts:
        found = [letter for letter in text if letter.isalpha()]
        letters += len(found)
        english += sum(map(str.isascii, found))
    return "rouge" if english >= LATIN_SHARE * letters else "unicode"


def novel_bigrams(summaries, documents, tokenize="rouge"):
    """The share in percent of the summaries' bigrams that do not stand in their documents.

    See et al. (2017), https://arxiv.org/abs/1704.04368, section 5.2: 0 for one who only copies
    whole passages. All bigrams of all summaries count alike.

    Args:
        summaries, documents: lists of N str.
        tokenize: as in `rouge`.

    Returns:
        Score; its value is 0 if no summary has two words. The signature says how many bigrams
        there are.

    Raises:
        ValueError: as `bleu`, or `tokenize` is neither of the two.
        ImportError: the rouge-score package is missing.
    """
    return _share("novel bigrams", "bigrams", 2, False, summaries, documents, tokenize)


def copied_share(summaries, documents, tokenize="rouge"):
    """The share in percent of the summaries' words that stand in their documents.

    Args, Returns, Raises: as `novel_bigrams`, of words.
    """
    return _share("copied", "words", 1, True, summaries, documents, tokenize)


def lead_words(documents, count):
    """The first words of each document, the usual baseline.

    Args:
        documents: list of N str.
        count: int, words, with spaces between them.

    Returns:
        list of N str.

    Example:
        >>> lead_words(["A cat sat down.", "Nobody saw."], 3)
        ['A cat sat', 'Nobody saw.']
    """
    checks.at_least(1, count=count)
    return [" ".join(text.split()[:count]) for text in documents]


def first_sentences(documents):
    """The first sentence of each document, by `split_sentences`: list of N str -> list of N str."""
    return [split_sentences(text)[0] for text in documents]


def random_sentences(documents, seed=0):
    """One sentence of each document, chosen by the seed. list of N str -> list of N str."""
    rng = np.random.default_rng(seed)
    found = map(split_sentences, documents)
    return [sentences[rng.integers(len(sentences))] for sentences in found]


def split_sentences(text):
    """The sentences of a text: a full stop, question or exclamation mark and a space end one,
    unless a small letter follows. A list of at least one str.

    Example:
        >>> split_sentences("It works, e.g. here. Does it?  Yes.")
        ['It works, e.g. here.', 'Does it?', 'Yes.']
    """
    starts = [0, *(match.end() for match in SENTENCE_END.finditer(text))]
    parts = [text[a:b].strip() for a, b in zip(starts, [*starts[1:], None], strict=True)]
    return [part for part in parts if part] or [""]


class _Words:
    """A tokenizer as rouge-score wants it: `tokenize` of a text is a list of words.

    Args:
        inner: function from a text to its words.
    """

    def __init__(self, inner):
        self.inner = inner

    def tokenize(self, text):
        return self.inner(text.replace(UNKNOWN, UNKNOWN_WORD))


def _tokenizer(tokenize, stem=False):
    checks.one_of(TOKENIZERS, tokenize=tokenize)
    if tokenize == "unicode":
        return _Words(_unicode_words)
    _, tokenizers = _import_rouge()
    return _Words(tokenizers.DefaultTokenizer(stem).tokenize)


def _scorer(kinds, tokenize, stem):
    rouge_scorer, _ = _import_rouge()
    return rouge_scorer.RougeScorer(kinds, tokenizer=_tokenizer(tokenize, stem))


def _unicode_words(text):
    def spaced(letter):
        if _IDEOGRAPH.match(letter):
            return f" {letter} "
        return letter if letter.isalnum() or unicodedata.category(letter)[0] == "M" else " "

    return "".join(map(spaced, text.lower())).split()


def _share(name, unit, order, is_in, summaries, documents, tokenize):
    """The share of the summaries' n-grams that are, or are not, in their documents."""
    summaries, rows = compared(summaries, documents)
    words_of = _tokenizer(tokenize).tokenize
    count = hits = 0
    for summary, (document,) in zip(summaries, rows, strict=True):
        known = set(_ngrams(words_of(document), order))
        found = _ngrams(words_of(summary), order)
        count += len(found)
        hits += sum((ngram in known) == is_in for ngram in found)
    signature = f"{unit}:{count}|case:lc|tok:{tokenize}|{NORMALIZATION}"
    return Score(name, 100 * hits / max(count, 1), signature)


def _ngrams(words, order):
    return [tuple(words[start : start + order]) for start in range(len(words) - order + 1)]


def _import_rouge():
    try:
        from rouge_score import rouge_scorer, tokenizers
    except ImportError as error:
        raise ImportError(
            "This score needs the rouge-score package: pip install kzoo[metrics]"
        ) from error
    return rouge_scorer, tokenizers
