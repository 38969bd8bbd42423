"""recipes.translation with several target languages: one model, scores of each, resumed alike."""

import dataclasses
import itertools
import json

import pytest

import kzoo
from kzoo import text
from recipes import translation
from recipes.data.examples import Pairs
from recipes.data.splits import Splits
from recipes.runs import languages, translation_scores

WORDS = {
    "one": ("eins", "un"),
    "two": ("zwei", "deux"),
    "three": ("drei", "trois"),
    "red": ("rote", "rouges"),
    "green": ("grüne", "verts"),
    "cats": ("Katzen", "chats"),
    "dogs": ("Hunde", "chiens"),
}
SIZES = {"de": 252, "fr": 61}


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sources = [words for n in (2, 3) for words in itertools.permutations(WORDS, n)]
    for place, (code, size) in enumerate(SIZES.items()):
        rows = [(" ".join(s), " ".join(WORDS[w][place] for w in s)) for s in sources[-size:]]
        lines = "".join(f"{source}\t{target}\n" for source, target in rows)
        (tmp_path / f"pairs.{code}.tsv").write_text(lines, encoding="utf-8")
    return translation.Config(
        data="pairs.{language}.tsv",
        target_language="de,fr",
        model="rnn_bahdanau",
        vocabulary_size=80,
        dropout=0.0,
        batch_tokens=256,
        epochs=2,
        learning_rate=0.003,
        validation_pairs=3,
        warmup_steps=20,
        beam_size=2,
        max_length=24,
        average=0,
        output="out",
    )


@pytest.mark.slow
def test_an_interrupted_run_of_two_languages_goes_on_and_scores_each(
    config, tmp_path, capfd, interrupted
):
    with interrupted(tmp_path / "out/.kzoo-run/checkpoints"):
        translation.main(config)
    printed = capfd.readouterr().out
    assert "Times that a pass reads the pairs of each: de 1.00, fr 3." in printed
    resumed = dataclasses.replace(config, resume=True)
    with pytest.raises(ValueError, match=r"changed: \{'mixing_temperature': \(5\.0, 1\.0\)\}"):
        translation.main(dataclasses.replace(resumed, mixing_temperature=1.0))
    figures = translation.main(resumed)
    again = capfd.readouterr().out

    def of_data(out):
        starts = ("train ", "valid ", "Times ", "Learning", "rnn_bahdanau")
        return [line for line in out.splitlines() if line.startswith(starts)]

    # The vocabulary, the pairs of each language and how often they are read are those of before.
    assert of_data(printed) == of_data(again)[-len(of_data(printed)) :]
    assert "| de |" in again and "| fr |" in again
    assert ">>de<< " in again.split("answers:")[1] and ">>fr<< " in again.split("answers:")[1]

    assert figures["test BLEU"] == (figures["test BLEU de"] + figures["test BLEU fr"]) / 2
    saved = json.loads((tmp_path / "out/1/metrics.json").read_text(encoding="utf-8"))
    assert saved["test BLEU"]["signature"].startswith("mean:de,fr|nrefs:1|")
    assert saved["test chrF2 fr"]["signature"].startswith("nrefs:1|")
    card = (tmp_path / "out/1/model_card.md").read_text(encoding="utf-8")
    assert card.startswith("# Translation en to de, fr\n")
    assert "training: de 2" in card and "; fr 5" in card and "| test chrF2 fr" in card
    assert "--target_language de,fr" in card
    maps = {path.name for path in (tmp_path / "out/1").glob("attention-*.png")}
    assert len(maps) == 3
    served = kzoo.load("out")
    contents = ["two red cats", "one dogs green"]
    assert served(contents, language="fr") == served([f">>fr<< {each}" for each in contents])
    assert served(contents) == served(contents, language="de")


FLAGS = {
    "`tokenizer` must be subwords with several target languages, got tokenizer=words": {
        "tokenizer": "words"
    },
    "`target_language` must be a code, or several with commas between them, each of two to": {
        "target_language": "de,"
    },
    "`mixing_temperature` must be at least 1, got mixing_temperature=0.5": {
        "mixing_temperature": 0.5
    },
}


@pytest.mark.parametrize("message", FLAGS)
def test_a_flag_that_does_not_go_with_several_languages_is_refused(message):
    with pytest.raises(ValueError, match=message):
        translation.Config(**{"target_language": "de,fr", **FLAGS[message]})


def test_spaces_between_codes_do_not_matter_and_the_folder_has_them_all():
    config = translation.Config(target_language="de, fr ,pt-BR")
    assert config.target_languages == ["de", "fr", "pt-BR"]
    assert str(config.folder) == "saved_models/translation-en-de-fr-pt-BR"


class Model:
    def __init__(self, *codes):
        self.source_tokenizer = text.SubwordTokenizer.learn(["a b", "c d"], 30, languages=codes)


def splits_of(*codes):
    part = Pairs(["a b"], ["c d"], ["g"], further=[()])
    return {code: Splits(part, part, None) for code in codes}


def test_sources_begin_with_tags_if_the_model_has_them():
    asked = languages.asked_for(Model("de", "fr"), splits_of("fr", "de"))
    assert [each.train.source for each in asked.values()] == [[">>fr<< a b"], [">>de<< a b"]]
    assert asked["fr"].valid.source == [">>fr<< a b"] and asked["fr"].test is None
    assert asked["fr"].train.target == ["c d"]
    # Also a single one, where a run goes on from a model of several.
    (only,) = languages.asked_for(Model("de", "fr"), splits_of("fr")).values()
    assert only.train.source == [">>fr<< a b"]
    assert languages.asked_for(Model(), splits_of("fr")) == splits_of("fr")


def test_a_language_without_a_tag_in_the_model_is_refused():
    rule = r"`target_language` must be among those of the model, de, fr, got it, es\."
    with pytest.raises(ValueError, match=rule):
        languages.asked_for(Model("de", "fr"), splits_of("it", "de", "es"))
    rule = r"`target_language` must be among those of the model, one alone, got de, fr\."
    with pytest.raises(ValueError, match=rule):
        languages.asked_for(Model(), splits_of("de", "fr"))


def test_a_source_shapes_the_vocabulary_once_however_many_languages_have_it(monkeypatch):
    seen = []
    monkeypatch.setattr(
        translation.runs, "learn_tokenizer", lambda *arguments, **options: seen.append(arguments[1])
    )
    train = Pairs.joined([Pairs(["a", "b"], ["x", "y"], ["1", "2"], further=[(), ()])] * 2)
    assert len(train) == 4
    translation.learn_tokenizers(train, translation.Config(target_language="de,fr"))
    translation.learn_tokenizers(train, translation.Config(target_language="de"))
    assert seen[0] == ["a", "b", "x", "y", "x", "y"]
    assert seen[1] == ["a", "b", "a", "b", "x", "y", "x", "y"]


def test_the_score_of_several_languages_is_their_mean_with_every_setting_named(capsys):
    parts = {
        "de": Pairs(["a"], ["eins zwei drei vier"], ["g"], further=[()]),
        "ja": Pairs(["a", "b"], ["猫が二匹いる", "犬"], ["g", "h"], further=[(), ()]),
    }
    answers = ["eins zwei drei vier", "猫が二匹", "犬"]
    found = translation_scores.of_languages("test", parts, answers)
    assert found["test BLEU de"].value == pytest.approx(100)
    mean = found["test BLEU"]
    assert mean.value == pytest.approx(50 + found["test BLEU ja"].value / 2)
    assert mean.signature.startswith("mean:de,ja|nrefs:1|case:mixed|eff:no|tok:13a|")
    assert f"or {found['test BLEU ja'].signature}" in mean.signature
    assert "| de | 100.00 | 100.00 | 100.00 |" in capsys.readouterr().out
    only = translation_scores.of_languages("test", {"de": parts["de"]}, answers[:1])
    assert list(only) == ["test BLEU", "test BLEU, lower case", "test chrF2"]
