"""Cleaning: each rule finds what it is about and nothing else; only training pairs are left out."""

import pytest

from recipes.data import cleaning
from recipes.data.examples import Pairs
from recipes.data.splits import Splits


def pairs_of(*rows, ordinary=40):
    """The rows, after ordinary ones that show what is usual."""
    pairs = Pairs()
    for row in range(ordinary):
        pairs.add(f"This is an ordinary sentence {row}.", f"Das ist ein üblicher Satz {row}.")
    for row in rows:
        pairs.add(*row)
    return pairs


FAULTS = {
    "repeated": [
        ("This is an ordinary sentence 3.", "Das ist ein üblicher Satz 3."),
        ("This is an  ordinary sentence 3.", "Das ist ein u\u0308blicher Satz 3."),  # looks alike
    ],
    "same on both sides": [("Not yet translated", "not yet Translated")],
    "lengths differ": [
        ("Press the red button until the light goes out, then let go.", "Drücken."),
        ("Press it.", "Drücken Sie den roten Knopf, bis das Licht ausgeht, und lassen Sie los."),
    ],
    "wrong script": [
        ("Это совсем другое предложение.", "Das ist ein ganz anderer Satz."),
        ("This is another sentence.", "これはまったく別の文です、多分。"),
    ],
    "markup differs": [
        ("Open <b>settings</b> of this", "Öffne die Einstellungen davon"),
        ("Delete {count} files of {name}", "Lösche {count} Dateien von {nme}"),
        ("Copied %s of %d files to it", "%d Dateien dorthin kopiert"),
        ('See <a href="x">the page</a> there', "Siehe <a>die Seite dort"),
        ("Set ${HOME} as a folder", "Setze HOME als Ordner"),
    ],
}
FINE = [
    ("OK", "OK"),
    ("Home Assistant", "Home Assistant"),
    ("This is an ordinary sentence 3.", "Das ist wirklich ein Satz 3."),  # another translation
    ("Yes", "Selbstverständlich"),  # both are short
    ("Email", "eMail"),
    ("Add Wi-Fi (это беспроводная сеть)", "WLAN hinzufügen (das ist drahtlos)"),
    ("Open <b>settings</b> of it", "<b>Einstellungen</b> davon öffnen"),
    ('See <a href="/en">the page</a> there', 'Siehe dort <a href="/de">die Seite</a>'),
    ("{a} of {b} is 50% sure of it", "von {b} ist {a} zu 50% sicher"),
    ("{n, plural, one {file} other {files}}", "{n, plural, one {Datei} other {Dateien}}"),
    ("Enter a number < 3 and > 1 here", "Hier eine Zahl kleiner 3 und über 1"),
    ("<your name> is told to them", "<Ihr Name> wird ihnen genannt"),
    ("usage: tool <file>", "Aufruf: tool <Datei>"),
    ("%s of %s files are there", "da sind %2$s Dateien von %1$s"),
    ("%s file and %i lines of it", "%sn tiedosto ja %d riviä"),
    ("it is 100% sure", "das ist 100%sicher"),
]


@pytest.mark.parametrize("rule", FAULTS)
def test_a_rule_finds_its_faults_and_no_others(rule):
    pairs = pairs_of(*FAULTS[rule], *FINE)
    found = cleaning.report(pairs)
    expected = range(40, 40 + len(FAULTS[rule]))
    assert found == {name: [*expected] if name == rule else [] for name in cleaning.PARALLEL}


def test_what_is_usual_is_that_of_each_source():
    pairs = Pairs()
    for row in range(100):
        pairs.add(f"A sentence of words {row}", f"Реченица подужа {row}", place="a")
    for row in range(5):
        pairs.add(f"A sentence of texts {row}", f"Duga i jasna rečenica {row}", place="b")
    assert not any(cleaning.report(pairs).values())
    pairs.add("A sentence of words 3", "Реченица подужа 3", place="b")
    assert cleaning.report(pairs)["repeated"] == [105]


def test_one_script_of_many_is_common():
    words = "словослово", "wordword", "λόγοςλόγος", "מילהמילה", "ကခဂဃကခဂဃ", "คำคำคำคำ"
    pairs = Pairs()
    for word in words:
        pairs.add("A sentence of words", f"{word} {word}")
    assert len(cleaning.scripts(pairs)) == len(words) - 1


def test_a_side_may_have_two_scripts():
    pairs = Pairs()
    for row in range(40):
        pairs.add(f"A sentence of words {row}", f"Реченица подужа {row}")
        pairs.add(f"Another sentence {row}", f"Jedna druga rečenica {row}")
    assert not cleaning.scripts(pairs)


def test_japanese_letters_are_of_one_script():
    pairs = Pairs()
    for row in range(20):
        pairs.add(f"A sentence of words {row}", f"これはひらがなのぶんですよね{row}")
        pairs.add(f"Another sentence {row}", "カタカナバカリノブンショウデス")
    for text in ("漢字漢字漢字漢字漢字漢字", "ﾊﾝｶｸﾉｶﾅﾓｵﾅｼﾞﾓｼﾞﾃﾞｽ"):
        pairs.add("One of few like it", text)
    assert not cleaning.scripts(pairs)


def test_the_usual_ratio_of_lengths_is_that_of_the_corpus():
    pairs = Pairs()
    for row in range(30):
        pairs.add(f"A sentence that is quite long, whichever it is {row}", f"短文短文短文{row}")
    assert not cleaning.lengths(pairs)


def test_only_training_pairs_are_left_out_and_all_is_told(capsys):
    rows = [row for rows in FAULTS.values() for row in rows]
    train, valid = pairs_of(*rows), pairs_of(*rows, ordinary=2)
    train.skipped["empty side"] = 5
    splits = cleaning.cleaned(Splits(train, valid, None), "de")
    assert splits.valid is valid and splits.test is None
    assert splits.train.source == train.source[:40] and splits.train.groups == train.groups[:40]
    expected = {name: len(rows) for name, rows in FAULTS.items()} | {"empty side": 5}
    assert splits.train.skipped == expected
    said = capsys.readouterr().out
    assert f"Cleaning {40 + len(rows)} training pairs to de" in said
    assert "1  same on both sides, as 'Not yet translated' -> 'not yet Translated'" in said
    assert "  40  are left" in said


def test_a_long_text_is_shown_in_part(capsys):
    pairs = pairs_of(("x" * 500, "y"))
    cleaning.cleaned(Splits(pairs, pairs, None))
    assert f"'{'x' * 47}…' -> 'y'" in capsys.readouterr().out


def test_cleaning_leaves_at_least_one_pair():
    pairs = Pairs()
    pairs.add("the same text here", "the same text here")
    with pytest.raises(ValueError, match="`clean` must leave at least one training pair, got none"):
        cleaning.cleaned(Splits(pairs, pairs, None))


def test_summaries_are_no_translations():
    pairs = pairs_of(
        ("A long text of many words, which says much about a thing.", "A thing"),
        ("Short.", "A summary that is longer"),
        ("See <b>this</b> thing at once", "This thing"),
        ordinary=10,
    )
    found = cleaning.report(pairs, cleaning.SUMMARIES)
    assert found["longer than the document"] == [11] and sum(map(len, found.values())) == 1
