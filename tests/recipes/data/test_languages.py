"""Codes of languages in their spellings, against the registry that ISO and the IETF keep."""

import subprocess
import sys
from pathlib import Path

import pytest

from recipes.data import languages
from recipes.data.languages import is_same, language_of, match, match_both, resolve
from recipes.data.pairs import load_pairs
from recipes.runs import translation_scores


@pytest.mark.parametrize(
    ("code", "language"),
    [
        *(("ZH-CN", "zh"), ("zh-Hans", "zh"), ("zho", "zh"), ("chi", "zh"), ("cmn", "zh")),
        *(("JA", "ja"), ("jpn", "ja"), ("ja_JP.SJIS", "ja"), ("pt_BR", "pt"), ("deu", "de")),
        *(
            ("ger", "de"),
            ("iw", "he"),
            ("heb", "he"),
            ("ko-KR", "ko"),
            ("tha", "th"),
            ("fil", "fil"),
        ),
        *(
            ("sr@latin", "sr"),
            ("nb", "no"),
            ("nn", "nn"),
            ("fre", "fr"),
            ("mya", "my"),
            ("yue", "yue"),
        ),
        *(("C", "c"), ("no language", "no language"), ("", "")),
    ],
)
def test_a_code_in_any_spelling_has_its_language(code, language):
    assert language_of(code) == language


@pytest.mark.parametrize(
    ("known", "code", "found"),
    [
        ({"en-US", "de"}, "eng", "en-US"),
        ({"en", "en-US"}, "en_GB", "en"),
        ({"de_AT", "DE"}, "de", "DE"),
        ({"deu", "eng"}, "de-CH", "deu"),
        ({"zh-Hant", "zh-CN"}, "zh-TW", "zh-Hant"),
        ({"zh-Hant"}, "zh-CN", None),
        ({"zh-TW"}, "zh", "zh-TW"),
        ({"sr-Latn"}, "sr", "sr-Latn"),
        ({"sr@latin", "sr"}, "sr-Latn", "sr@latin"),
        ({"no"}, "nb", "no"),
        ({"he"}, "iw", "he"),
        ({"pt-PT"}, "pt-BR", None),
        ({"*all*", "x-default"}, "de", None),
        ({"klingonese"}, "Klingonese", "klingonese"),
    ],
)
def test_the_nearest_language_is_found_and_no_other_region_or_script(known, code, found):
    assert match(known, code) == found


def test_no_language_is_meant_by_both_codes():
    assert match_both({"pt-BR", "pt-PT"}, "pt", "pt-BR") == ["pt-PT", "pt-BR"]
    assert match_both({"en-GB", "en"}, "en-GB", "en") == ["en-GB", "en"]
    assert match_both({"en"}, "en", "en-GB") == ["en", None]
    assert is_same("DEU", "de") and not is_same("pt", "pt-BR")
    with pytest.raises(ValueError, match=r"`target_language` must be one of \['en'\], got 'en-GB'"):
        resolve({"en"}, "en", "en-GB")


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("jp", "'jp' is no code of a language; is 'ja' meant?"),
        ("CN", "'CN' is no code of a language; is 'zh' meant?"),
        ("kr", "'kr' is another language's code; is 'ko' meant?"),
        ("Japanese", "'Japanese' is no code of a language; is 'ja' meant?"),
        ("klingonese", "'klingonese' is no code of a language"),
        *(("ja", ""), ("zh-CN", ""), ("deu", ""), ("pt_BR", "")),
    ],
)
def test_a_code_that_is_none_is_said(tmp_path, capsys, code, said):
    assert languages.doubt(code) == said
    (tmp_path / "a.tsv").write_text("cat\tneko\n")
    path = str(tmp_path / "a.tsv")
    arguments = {"source_language": "en", "target_language": code}
    load_pairs(train=path, valid=path, **arguments)
    lines = capsys.readouterr().err.split("\n")
    assert lines[0] == (f"`target_language`: {said}" if said else "train: 1 pairs")


def test_bleu_counts_what_are_words_in_the_target_in_any_spelling(monkeypatch):
    def tokenizer(code):
        return translation_scores.bleu_tokenizer(code)

    monkeypatch.setattr(translation_scores.importlib.util, "find_spec", lambda name: None)
    for code in ("ZH-CN", "zh_TW", "zho", "yue"):
        assert tokenizer(code) == "zh"
    for code in ("JA", "jpn", "ko-KR", "kor", "TH", "tha", "lo", "km", "my", "bur"):
        assert tokenizer(code) == "char"
    for code in ("de", "EN-us", "vi", "ar"):
        assert tokenizer(code) == "13a"
    monkeypatch.setattr(translation_scores.importlib.util, "find_spec", lambda name: name)
    assert [tokenizer(code) for code in ("jpn", "KO", "tha")] == ["ja-mecab", "ko-mecab", "char"]


def test_every_tokenizer_that_needs_no_other_package_is_one_of_sacrebleus():
    from sacrebleu.metrics import BLEU

    for name in {*translation_scores.BLEU_TOKENIZERS.values()}:
        assert BLEU(tokenize=name).corpus_score(["a b c d"], [["a b c d"]]).score > 99


def test_help_does_not_load_the_table_of_languages():
    code = "import recipes.data.pairs, sys; sys.exit('langcodes' in sys.modules)"
    root = Path(languages.__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=root).returncode == 0


def test_without_its_package_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "langcodes", None)
    with pytest.raises(ImportError, match=r"langcodes package: pip install kzoo\[recipes\]"):
        language_of("de")
