"""Cleaning: each rule finds what it is about and nothing else; only training pairs are left out."""

import itertools
from pathlib import Path

import pytest

from recipes.data import cleaning, cleaning_rules
from recipes.data.examples import Clip, Clips, Pairs, Picture, Pictures, Words
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
    row = Picture(Path(f"/{'x' * 99}/7.png"), ("<b>dog</b>",), "", "list:1")
    part = Pictures([row, row._replace(path=Path("/8.png"), captions=("dog",))])
    cleaning.cleaned(Splits(part, part, None), rules=cleaning.CAPTIONS, what="captions")
    assert f"as '…{'x' * 41}/7.png' -> '<b>dog</b>'" in capsys.readouterr().out


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


WORDS = ["".join(each) for each in itertools.product("abcdef", "ghij", "klmn")]


def words_of(*entries, place=""):
    """Words of three letters with a phoneme for each, then the entries."""
    words = Words()
    for word in WORDS:
        words.add(word, " ".join(word.upper()), place)
    for entry in entries:
        words.add(*entry, place)
    return words


def test_pronunciations_of_other_words_and_words_of_other_scripts_are_found():
    wrong = [
        ("hikingpaths", "D O L"),  # 3 for 11 letters
        ("apples", "A P L T R E E S A N D M O R E O F I T"),  # 18 for 6
        ("слово", "S L O V O"),
    ]
    fine = [
        ("though", "TH O"),  # 2 for 6 letters
        ("eau", "O"),
        ("w", "D U B L Y U"),
        ("vs", "V E R E N I G D E S T A T E N"),
        ("e.g.e.g.", "F O R E X A M P L E F O R E X A M P L E"),
        (
            "178-year-old",
            "H U N D R E D S E V E N T Y E I G H T Y E A R O L D A N D M O R E O F I T",
        ),
        ("ж", "ZH E"),
        ("1995", "N I N E T I N N I N E T I F A I V"),
    ]
    pairs = words_of(*wrong, *fine).pairs
    found = cleaning.report(pairs, cleaning.PRONUNCIATIONS)
    named = {name: [pairs.source[row] for row in rows] for name, rows in found.items() if rows}
    assert named == {"lengths differ": ["hikingpaths", "apples"], "wrong script": ["слово"]}


def test_a_pronunciation_is_repeated_in_the_later_source_alone(capsys):
    first = words_of(("read", "R I D"), place="a")
    second = Words(skipped={"empty side": 2})
    second.add("read", "R I D", "b")
    second.add("read", "R E D", "b")
    train = Words.joined([first, second])
    assert len(train.pairs) == len(WORDS) + 3
    splits = Splits(train, train, None)
    kept = cleaning.cleaned(splits, rules=cleaning.PRONUNCIATIONS, what="pronunciations")
    assert kept.valid is train and kept.train.rows == train.rows
    assert kept.train.pairs.by_place()["b"].target == ["R E D"]
    assert kept.train.pairs.by_place()["a"].target[-1] == "R I D"
    assert kept.train.skipped == {"empty side": 2, "repeated": 1}
    said = capsys.readouterr().out
    assert f"Cleaning {len(WORDS) + 3} training pronunciations" in said
    assert "1  repeated, as 'read' -> 'R I D'" in said and f"{len(WORDS) + 2}  are left" in said


def test_a_phoneme_of_one_entry_alone_is_a_typo_where_there_are_very_many(monkeypatch):
    pairs = words_of(("typo", "T AI QQ O"), ("two", "T ZZ"), ("too", "ZZ A"), place="a").pairs
    assert not cleaning_rules.lone_phonemes(pairs)
    monkeypatch.setattr(cleaning_rules, "LEAST_ENTRIES", len(pairs))
    # AI, O, QQ are of one entry; ZZ and T are of two.
    assert cleaning_rules.lone_phonemes(pairs) == [len(WORDS)]
    other = words_of(("kai", "K AI QQ O"), place="b")
    both = Words.joined([words_of(("typo", "T AI QQ O"), ("two", "T E"), place="a"), other]).pairs
    assert not cleaning.report(both, cleaning.PRONUNCIATIONS)["a phoneme of no other entry"]
    # The own words beside a large dictionary stay, and an entry that two of these list is one.
    monkeypatch.setattr(cleaning_rules, "LEAST_ENTRIES", len(WORDS))
    small = Words.joined([words_of(place="a"), Words({"kai": ["K QQ"]}).of_source("b")]).pairs
    assert not cleaning_rules.lone_phonemes(small)
    twice = [words_of(("typo", "T QQ O"), place=place) for place in "ab"]
    rows = cleaning_rules.lone_phonemes(Words.joined(twice).pairs)
    assert [Words.joined(twice).pairs.source[row] for row in rows] == ["typo", "typo"]


def pictures_of(*captions, ordinary=60):
    """Pictures with two sentences each, the first ones with one of the captions besides."""
    rows = []
    for row in range(ordinary):
        texts = [f"A dog of number {row} runs.", f"One sees dog {row} on grass."]
        place = f"list:{row}"
        rows.append(Picture(Path(f"/x/{row}.png"), (*texts, *captions[row : row + 1]), "", place))
    return Pictures(rows)


CAPTION_FAULTS = {
    "repeated": ["One sees  dog 0 on grass.", "A dog of number 1 runs."],
    "without a word": ["?!", "..."],
    "markup": ["A <b>large</b> dog", "A dog<br/>and a cat", "Dogs &amp; cats", "Dog&#39;s life"],
    "wrong script": ["Собака бежит по траве.", "草の上を犬が走っていますよね"],
    "far too long": ["A dog runs and " * 12],
}
FINE_CAPTIONS = [
    *(
        "One sees dog 0 on grass!",
        "dog",
        "A sign says 犬 on it, a dog",
        "A dog < a cat",
        "AT&T sign",
    ),
    "A long caption that is, all in all, not more than three times as long as others",
]


@pytest.mark.parametrize("rule", CAPTION_FAULTS)
def test_a_rule_for_captions_finds_its_faults_and_no_others(rule):
    part = pictures_of(*CAPTION_FAULTS[rule], *FINE_CAPTIONS)
    pairs = part.pairs
    found = cleaning.report(pairs, cleaning.CAPTIONS)
    named = {name: [pairs.target[row] for row in rows] for name, rows in found.items() if rows}
    assert named == {rule: CAPTION_FAULTS[rule]}


def test_a_caption_of_very_many_pictures_says_nothing_but_labels_do():
    part = pictures_of(*["No caption!", "no Caption!"] * 15)
    rows = cleaning_rules.of_many_pictures(part.pairs)
    assert [part.pairs.target[row].lower() for row in rows] == ["no caption!"] * 30
    assert not cleaning_rules.of_many_pictures(pictures_of(*["No caption!"] * 20).pairs)
    labels = Pictures(
        [Picture(Path(f"/x/{n}"), ("cat" if n % 5 else "dog",), "", "") for n in range(99)]
    )
    assert not cleaning_rules.of_many_pictures(labels.pairs)


def test_a_caption_may_have_a_hundredth_of_the_pictures_however_often_it_is_given_to_one():
    few, many = (pictures_of(*["No caption"] * n, ordinary=3000) for n in (30, 31))
    assert not cleaning_rules.of_many_pictures(few.pairs)
    assert len(cleaning_rules.of_many_pictures(many.pairs)) == 31
    often = pictures_of(ordinary=3000)
    often.rows.append(Picture(Path("/x/dog.png"), ("dog",) * 99, "", ""))
    assert not cleaning_rules.of_many_pictures(often.pairs)


def test_pictures_lose_captions_and_go_when_none_is_left(capsys):
    part = pictures_of("<i>dog</i>")
    only = Picture(Path("/x/y/7.png"), ("<u>cat</u>", "&lt;"), "", "list:99")
    train = Pictures([*part.rows, only], missing=["there is no 8.png"])
    train.skipped["empty captions"] = 3
    kept = cleaning.cleaned(Splits(train, part, part), rules=cleaning.CAPTIONS, what="captions")
    assert kept.valid is part and kept.test is part
    assert kept.train.rows == pictures_of().rows and kept.train.missing == train.missing
    counts = {"empty captions": 3, "markup": 3, "pictures without a caption": 1}
    assert kept.train.skipped == counts
    said = capsys.readouterr().out
    assert "Cleaning 123 training captions" in said and "3  markup, as '0.png' -> '<i>dog" in said
    empty = Splits(Pictures([only]), part, part)
    with pytest.raises(
        ValueError, match="`clean` must leave at least one training caption, got no"
    ):
        cleaning.cleaned(empty, rules=cleaning.CAPTIONS, what="captions")


def test_a_text_that_nobody_can_say_in_the_seconds_of_its_clip_is_found():
    texts = {f"{row}.wav": (f"sentence of number {row}", 2.0) for row in range(30)}  # 10 a second
    wrong = {"cut.wav": ("a long sentence that was cut", 0.5), "rest.wav": ("well", 9.0)}
    fine = {
        "short.wav": ("beep", 0.1),  # too few characters to tell
        "quick.wav": ("a quick sentence", 0.7),
        "yes.wav": ("y", 1.5),  # silence around it
        "slow.wav": ("a slow sentence", 10.0),
        "broken.wav": ("a sentence of which nobody knows the seconds", None),
    }
    all_of_them = texts | wrong | fine
    part = Clips([Clip(Path("/x", name), text, "", "") for name, (text, _) in all_of_them.items()])
    seconds = {name: time for name, (_, time) in all_of_them.items() if time}
    found = cleaning.report(part.pairs, cleaning.clip_rules(seconds))
    rows = [*all_of_them].index("cut.wav"), [*all_of_them].index("rest.wav")
    assert found == {"repeated": [], "wrong script": [], "unlike the seconds": [*rows]}
    kept = cleaning.cleaned(
        Splits(part, part, None), rules=cleaning.clip_rules(seconds), what="clips"
    )
    assert kept.train.texts == [text for text, _ in (texts | fine).values()]


def test_pieces_of_one_file_are_clips_of_their_own():
    pieces = [("one", 0.0, 2.0), ("one", 2.0, 4.0), ("one", 2.0, 4.0), ("one", 4.0, None)]
    rows = [Clip(Path("/x/a.wav"), text, "", "", *where) for text, *where in pieces]
    found = cleaning.report(Clips(rows).pairs, cleaning.CLIPS)
    assert found == {"repeated": [2], "wrong script": []}
