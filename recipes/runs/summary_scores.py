"""The scores of summaries beside those of baselines: for the card, and as a table."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import kzoo
from recipes.data.examples import Pairs
from recipes.runs.building import spread_rows
from recipes.runs.scoring import of_sources

BASELINE_DOCUMENTS = 500  # of the training, on which the length of a lead is chosen
LEAD_SHARES = (0.75, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0)  # of the mean summary


def baselines(train: Pairs, documents: Sequence[str], tokenize: str, seed: int) -> dict:
    """{name: answers} of what any model is to be better than.

    Two leads: as many words as the median summary of the training has, and as many as score best
    there, since longer ones often do; the first sentence; a random sentence.
    """
    counts = {round(statistics.median(len(text.split()) for text in train.target)): None}
    counts[best_lead(train, tokenize)] = None
    leads = {f"lead-{n}": kzoo.metrics.lead_words(documents, n) for n in counts}
    return leads | {
        "first sentence": kzoo.metrics.first_sentences(documents),
        "random sentence": kzoo.metrics.random_sentences(documents, seed),
    }


def best_lead(train: Pairs, tokenize: str) -> int:
    """The number of first words with the best ROUGE-L on documents of the training."""
    rows = spread_rows(BASELINE_DOCUMENTS, len(train))
    documents, summaries = ([side[row] for row in rows] for side in (train.source, train.target))
    mean = statistics.mean(len(text.split()) for text in summaries)

    def score(count):
        answers = kzoo.metrics.lead_words(documents, count)
        return kzoo.metrics.rouge_values(answers, summaries, tokenize)["ROUGE-L"].mean()

    return max(sorted({max(1, round(share * mean)) for share in LEAD_SHARES}), key=score)


def summary_scores(
    answers: list[str], part: Pairs, train: Pairs, seed: int
) -> dict[str, kzoo.metrics.Score]:
    """ROUGE of the answers and of the baselines with intervals, and of the difference in ROUGE-L to
    the best baseline; then what is new in the answers, and in what people wrote; then ROUGE-L of
    each of several sources."""
    references, documents = part.references, part.source

    def rouge_l(rows):
        own, right = ([side[row] for row in rows] for side in (answers, references))
        return {"ROUGE-L": kzoo.metrics.rouge(own, right, tokenize, seed=seed)["ROUGE-L"]}

    tokenize = kzoo.metrics.rouge_tokenizer(part.target)
    others = baselines(train, documents, tokenize, seed)
    scores = dict(kzoo.metrics.rouge(answers, references, tokenize, seed=seed))
    for name, texts in others.items():
        found = kzoo.metrics.rouge(texts, references, tokenize, seed=seed)
        scores |= {f"{kind}, {name}": score for kind, score in found.items()}
    best = max(others, key=lambda name: scores[f"ROUGE-L, {name}"].value)
    own, other = (
        kzoo.metrics.rouge_values(texts, references, tokenize)["ROUGE-L"]
        for texts in (answers, others[best])
    )
    scores[f"ROUGE-L above {best}"] = kzoo.metrics.Score(
        "ROUGE-L",
        float((own - other).mean()),
        scores["ROUGE-L"].signature,
        kzoo.metrics.bootstrap_interval(own - other, seed=seed),
    )
    for name, texts in (("", answers), (", references", part.target)):
        scores[f"novel bigrams{name}"] = kzoo.metrics.novel_bigrams(texts, documents, tokenize)
        scores[f"copied{name}"] = kzoo.metrics.copied_share(texts, documents, tokenize)
    scores |= of_sources(part.rows_by_place(), rouge_l)
    return scores


def table(scores: dict[str, kzoo.metrics.Score]) -> str:
    """ROUGE-1, 2 and L with intervals, a line for the model and one for each baseline."""
    kinds = ("ROUGE-1", "ROUGE-2", "ROUGE-L")
    names = [label.removeprefix(f"{kinds[-1]}, ") for label in scores if f"{kinds[-1]}," in label]
    rows = []
    for name in ("this model", *names):
        end = "" if name == "this model" else f", {name}"
        rows.append((name, *(scores[f"{kind}{end}"].figure for kind in kinds)))
    return kzoo.export.card.table(("model", *kinds), rows)
