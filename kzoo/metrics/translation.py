"""Scores of translations: BLEU and chrF, by sacrebleu."""

from kzoo import checks
from kzoo.metrics.score import sacrebleu_score


def bleu(hypotheses, references, lowercase=False, tokenize="13a", force=False, order=4):
    """BLEU of a whole corpus: BP * exp(mean_n log p_n), n = 1..order, BP = min(1, exp(1 - r / h)).

    Papineni et al. (2002), https://aclanthology.org/P02-1040; signatures: Post (2018),
    https://arxiv.org/abs/1804.08771. p_n is the share of the hypotheses' n-grams that the
    references hold, h and r the lengths of the hypotheses and the nearest references in tokens.
    A p_n of 0 is smoothed exponentially. Both sides are normalized first, which sacrebleu does not
    do; of texts in NFC with single spaces the score is sacrebleu's own.

    Args:
        hypotheses: list of N str.
        references: list of N str, or of N lists of str: several references for a hypothesis, not
            necessarily equally many.
        lowercase: bool, compare in lower case.
        tokenize: str, sacrebleu's tokenizer: "13a" (its default), "intl", "char", "zh", "none".
        force: bool, do not warn in the log that the hypotheses look tokenized.
        order: int, the longest n-grams. The score is called BLEU if it is 4, else "BLEU-1", ...,
            as sacrebleu's signature does not tell.

    Returns:
        Score.

    Raises:
        ValueError: no texts, not as many references as hypotheses, a hypothesis without one, or an
            `order` below 1.
        ImportError: the sacrebleu package is missing.
    """
    checks.at_least(1, order=order)
    scorer = _import_sacrebleu().BLEU(
        lowercase=lowercase, tokenize=tokenize, force=force, max_ngram_order=order
    )
    return sacrebleu_score(
        "BLEU" if order == 4 else f"BLEU-{order}", scorer, hypotheses, references
    )


def chrf(hypotheses, references, word_order=0):
    """chrF2: the F-score, recall counted twice, of character n-grams, n = 1..6.

    Popović (2015), https://aclanthology.org/W15-3049. Spaces do not count.

    Args:
        hypotheses: list of N str.
        references: list of N str, or of N lists of str.
        word_order: int, also count word n-grams up to this n; 2 is chrF++.

    Returns:
        Score.

    Raises:
        ValueError: as `bleu`.
        ImportError: the sacrebleu package is missing.
    """
    scorer = _import_sacrebleu().CHRF(word_order=word_order)
    return sacrebleu_score("chrF2" + "+" * word_order, scorer, hypotheses, references)


def _import_sacrebleu():
    try:
        from sacrebleu import metrics
    except ImportError as error:
        raise ImportError(
            "This score needs the sacrebleu package: pip install kzoo[metrics]"
        ) from error
    return metrics
