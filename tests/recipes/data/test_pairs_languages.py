"""Pairs of several target languages: read from every kind of file, held out alike."""

import json

import pytest

from recipes.data import pairs
from recipes.data.examples import Pairs
from recipes.data.pairs import load_pairs
from recipes.data.pairs_languages import held_out_alike, load_languages

MISSING = {"de": {3}, "fr": {5, 7, 11}, "it": set(range(20, 60))}  # components without a text


def program(source_language, target_language):
    """Texts of 60 components, some of which a language lacks, and one that all share."""
    found = Pairs()
    for number in range(61):
        if number in MISSING[target_language]:
            continue
        for text in ["Save", *(f"text {number}.{row}" for row in range(1 + number % 5))]:
            found.add(text, f"{text} ({target_language})", group=f"component {number}")
    return found


@pytest.fixture
def source(monkeypatch):
    monkeypatch.setitem(pairs.NAMED_SOURCES, "homeassistant", program)
    return "homeassistant"


def load(data, codes=("de", "fr", "it"), **options):
    return load_languages(data, source_language="en", target_languages=list(codes), **options)


def test_a_component_is_held_out_in_all_languages_or_in_none(source, capsys):
    found = load(source)
    home = {}
    for splits in found.values():
        for name, part in splits._asdict().items():
            assert len(part)
            for group in part.groups:
                assert home.setdefault(group, name) == name
    assert {*home.values()} == {"train", "valid", "test"}
    assert "component 3" in home  # which the first language lacks
    trained = {text for splits in found.values() for text in splits.train.source}
    for splits in found.values():
        assert not trained & {*splits.valid.source, *splits.test.source}
        assert splits.test.skipped["source also in train"]
    assert "en to it:" in capsys.readouterr().err


def test_the_first_language_is_held_out_as_alone(source):
    alone = load_pairs(source, source_language="en", target_language="fr")
    assert load(source, ["fr"]) == {"fr": alone}
    beside = load(source, ["fr", "de", "it"])["fr"]
    for name in ("valid", "test"):
        assert {*getattr(beside, name).groups} == {*getattr(alone, name).groups}
    assert beside.train == alone.train


def test_groups_of_a_later_language_alone_are_held_out_by_the_same_shares():
    first, second = Pairs(), Pairs()
    for number in range(100):
        first.add(f"a {number}", "x")
        second.add(f"b {number}", "y")
    home = held_out_alike([first, second], valid=0.05, test=0.1, seed=3)
    for letter in "ab":
        counts = [name for group, name in home.items() if group[0] == letter]
        assert counts.count("valid") == 5 and counts.count("test") == 10


SENTENCES = {
    "en": ["One cat.", "Two cats.", "Three cats."],
    "de": ["Eine Katze.", "Zwei Katzen.", "Drei Katzen."],
    "fr": ["Un chat.", "Deux chats.", "Trois chats."],
}


def rows_of(*codes):
    return list(zip(*(SENTENCES[code] for code in codes), strict=True))


def write(folder, kind):
    """Writes the sentences; gives what --train says of them."""
    if kind == "a table with names":
        lines = ["\t".join(row) for row in [("en", "de", "fr"), *rows_of("en", "de", "fr")]]
        (folder / "a.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
        return "a.tsv"
    if kind == "JSONL":
        rows = [dict(zip(SENTENCES, row, strict=True)) for row in rows_of(*SENTENCES)]
        lines = [json.dumps({"translation": row}) for row in rows]
        (folder / "a.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        return "a.jsonl"
    if kind == "TMX":
        units = (
            "".join(
                f'<tuv xml:lang="{code}"><seg>{text}</seg></tuv>'
                for code, text in zip(SENTENCES, row, strict=True)
            )
            for row in rows_of(*SENTENCES)
        )
        body = "".join(f"<tu>{unit}</tu>" for unit in units)
        (folder / "a.tmx").write_text(f"<tmx><body>{body}</body></tmx>", encoding="utf-8")
        return "a.tmx"
    if kind == "a Moses prefix":
        for code, texts in SENTENCES.items():
            (folder / f"a.{code}").write_text("\n".join(texts) + "\n", encoding="utf-8")
        return "a"
    for code in ("de", "fr"):
        if kind == "PO, a file a language":
            entries = "\n".join(f'msgid "{s}"\nmsgstr "{t}"\n' for s, t in rows_of("en", code))
            head = (
                f'msgid ""\nmsgstr "Language: {code}\\nContent-Type: text/plain; charset=UTF-8"\n'
            )
            (folder / f"{code}.po").write_text(f"{head}\n{entries}", encoding="utf-8")
        else:
            lines = "\n".join(map("\t".join, rows_of("en", code)))
            (folder / f"a.{code}.tsv").write_text(lines + "\n", encoding="utf-8")
    return "{language}.po" if kind.startswith("PO") else "a.{language}.tsv"


KINDS = ["a table with names", "JSONL", "TMX", "a Moses prefix", "PO, a file a language", "tables"]


@pytest.mark.parametrize("kind", KINDS)
def test_files_of_every_kind_give_each_language_its_pairs(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    place = write(tmp_path, kind)
    found = load("homeassistant", ["de", "fr"], train=place, valid=place)
    for code, splits in found.items():
        assert splits.test is None
        for part in splits[:2]:
            assert part.source == SENTENCES["en"] and part.target == SENTENCES[code]


@pytest.mark.parametrize("name", ["a.tsv", "a.en,a.de"])
def test_a_file_of_one_language_is_refused_for_two(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "a Moses prefix")
    (tmp_path / "a.tsv").write_text("One.\tEins.\nTwo.\tZwei.\n", encoding="utf-8")
    rule = (
        r"(the same [23] pairs for 'de' and for 'fr'; .* write \{language\} in its path|files in)"
    )
    with pytest.raises(ValueError, match=rule):
        load("homeassistant", ["de", "fr"], train=name)


def test_a_given_part_of_one_language_is_refused_for_two(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train = write(tmp_path, "JSONL")
    (tmp_path / "v.tsv").write_text("One.\tEins.\nTwo.\tZwei.\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"v\.tsv has the same 2 pairs for 'de' and for 'fr'"):
        load("homeassistant", ["de", "fr"], train=train, valid="v.tsv")


@pytest.mark.parametrize("codes", [["de", "fr", "de"], ["de", "deu"]])
def test_a_language_is_named_once(codes, source):
    with pytest.raises(ValueError, match="`target_language` must not name a language twice, got"):
        load(source, codes)


def test_given_parts_are_compared_with_the_training_of_all_languages(tmp_path, capsys):
    for code, first in (("de", 0), ("fr", 20)):
        rows = range(first, first + 40)
        for name, own in (("train", rows), ("valid", [50 if code == "de" else 5])):
            text = "".join(f"source {row}\t{code} {row}\n" for row in own)
            (tmp_path / f"{name}.{code}.tsv").write_text(text)
    places = {name: str(tmp_path / f"{name}.{{language}}.tsv") for name in ("train", "valid")}
    load("homeassistant", ("de", "fr"), **places)
    assert capsys.readouterr().err.count("valid: 1 pairs; 1 of the sources are also in train") == 2
