"""`recipes.ship` on a model made here; and the same proofs for every model that is shipped."""

import dataclasses
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import exported
import numpy as np
import pytest
import tensorflow as tf

import kzoo
from kzoo.export import folder, manifest, names
from recipes import cli, ship

ROOT = Path(__file__).parents[2]
SHIPPED = [path.parent.name for path in ship.shipped(ROOT / "saved_models")]
TEXTS = ["Two young men are outside.", "A pulley."]
COMMAND = "python -m recipes.translation --epochs 2"


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    """A folder like a checkout, with a version that a recipe may have written; that is shipped."""
    place = tmp_path_factory.mktemp("zoo")
    (place / "saved_models").mkdir()
    text = f"# The zoo\n\n{ship.BEGIN}old\n{ship.END}\n## Names\n"
    (place / "saved_models/README.md").write_text(text)
    (place / ".gitignore").write_text("saved_models/*\n")
    model = exported.rnn()
    run = place / "run/1"
    score = kzoo.metrics.Score("BLEU", 23.4567, "nrefs:1|tok:13a", (22.0, 25.0))
    kzoo.export.save(
        model, run, signatures=["serving_default", "n_best"], max_length=7,
        card={"data": "three texts | in all", "licence": "as the data's", "command": COMMAND,
              "time": "0.5 minutes of training"},
        metrics={"sentences a second": 7.0, "test BLEU": score},
    )  # fmt: skip
    (run / "learning_curve.png").touch()
    before = os.getcwd()
    os.chdir(place)
    try:
        ship.main(
            ship.Config(
                folder="run", name="made-en", languages="en", ask=" | ".join(TEXTS), licence="CC0"
            )
        )
    finally:
        os.chdir(before)
    return place


def test_a_version_is_copied_without_pictures_and_its_card_speaks_of_the_copy(zoo):
    path = zoo / "saved_models/made-en/1"
    kept = {each.name for each in path.iterdir()}
    assert kept == {*ship.KEPT, "manifest.json"}
    before = (zoo / "run/1/model_card.md").read_text().splitlines()
    after = (path / "model_card.md").read_text().splitlines()
    changed = [(a.strip(), b.strip()) for a, b in zip(before, after, strict=True) if a != b]
    old, new = zoo / "run/1", "saved_models/made-en/1"
    assert changed == [
        ("| licence | as the data's |", "| licence | CC0 |"),
        (f'python -m kzoo {old} "text"', f'python -m kzoo {new} "text"'),
        (f'model = tf.saved_model.load("{old}")', f'model = tf.saved_model.load("{new}")'),
    ]
    weights = "variables/variables.data-00000-of-00001"
    assert (path / weights).read_bytes() == (old / weights).read_bytes()


def test_the_graph_of_a_copy_is_smaller_and_answers_alike(zoo):
    old, new = zoo / "run/1", zoo / "saved_models/made-en/1"
    sizes = [(path / "saved_model.pb").stat().st_size for path in (new, old)]
    assert sizes[0] < 0.65 * sizes[1]
    (texts, scores), (others, other_scores) = (
        zip(*kzoo.load(path).n_best(TEXTS[0]), strict=True) for path in (old, new)
    )
    assert texts == others
    np.testing.assert_allclose(scores, other_scores, rtol=1e-6)


def test_a_card_speaks_of_a_folder_whose_name_needs_quotes():
    card = kzoo.export.card
    text = "| licence | CC0 |\n\n    python -m kzoo a/1 'text'\n"
    once = card.revised(text, "it's my/1", {})
    assert shlex.split(once.splitlines()[-1]) == ["python", "-m", "kzoo", "it's my/1", "text"]
    assert card.revised(once, "a/1", {}) == text


def test_a_manifest_holds_what_the_card_and_the_metrics_say_and_what_was_asked(zoo):
    facts = manifest.check(zoo / "saved_models/made-en/1")
    assert (facts.name, facts.task, facts.languages) == ("made-en", "translation", ["en"])
    assert (facts.data, facts.licence, facts.command) == (
        "three texts | in all",
        "CC0",
        COMMAND,
    )
    signature = {"signature": "nrefs:1|tok:13a", "interval": [22.0, 25.0]}
    assert facts.score == {"metric": "test BLEU", "name": "BLEU", "value": 23.4567, **signature}
    served = kzoo.load(zoo / "run")
    assert facts.answers == {text: served(text) for text in TEXTS}
    assert any(facts.answers.values())
    assert facts.milliseconds > 0 and facts.machine


def test_git_sees_the_model_and_the_table_has_its_line(zoo):
    assert (zoo / ".gitignore").read_text() == "saved_models/*\n!saved_models/made-en/\n"
    text = (zoo / "saved_models/README.md").read_text()
    assert text.startswith("# The zoo\n\n<!--") and text.endswith("-->\n\n## Names\n")
    (row,) = (line for line in text.splitlines() if line.startswith("| `made-en` |"))
    for cell in (
        *("translation, en", r"three texts \| in all", "CC0", "MB", "0.5 minutes", "ms ("),
        *(r"test BLEU 23.46 [22.00, 25.00] `nrefs:1\|tok:13a`", f"`{COMMAND}`"),
    ):
        assert cell in row
    assert row.count(" | ") == text.splitlines()[4].count(" | ")
    assert "old\n" not in text
    assert ship.with_table(text, ship.shipped(zoo / "saved_models")) == text
    assert ship.NONE in ship.with_table(text, [])


def test_what_was_imported_into_the_folder_is_not_shipped(zoo, tmp_path):
    path = tmp_path / "imported/1"
    path.mkdir(parents=True)
    facts = manifest.read(zoo / "saved_models/made-en/1")
    manifest.write(path, facts._replace(name="imported", score=None))
    assert names.named_in(tmp_path) == {"imported": path}
    assert ship.shipped(tmp_path) == []


def test_the_files_that_a_model_of_sounds_was_asked_about_are_shipped_with_it(
    zoo, tmp_path, monkeypatch
):
    class Heard:
        """Stands in for a model that takes a minute to export."""

        content, input_name = kzoo.contents.SOUND, "audio_bytes"

        def __init__(self, path):
            pass

        def __call__(self, path):
            return path.read_text().upper()

    shown, fresh = [], ["SAID"]

    def answers(*arguments):
        shown.append(arguments[1:])
        return fresh

    monkeypatch.setattr(kzoo.export, "ServedModel", Heard)
    monkeypatch.setattr(ship.runs, "show_answers", answers)
    (tmp_path / "a.wav").write_text("said")
    config = ship.Config(
        str(zoo / "run"), "heard", ask=str(tmp_path / "a.wav"), models=str(tmp_path / "zoo")
    )
    twice = dataclasses.replace(config, ask=f"{tmp_path}/a.wav | {tmp_path}/sub/a.wav")
    with pytest.raises(ValueError, match="`ask` must be files of different names"):
        ship.ship(twice)
    fresh = ["other"]
    with pytest.raises(RuntimeError, match=r"answers \['SAID'\] here and \['other'\] in a fresh"):
        ship.ship(config)
    assert not (tmp_path / "zoo/heard/1").exists()
    fresh, shown = ["SAID"], []
    path = ship.ship(config)
    assert manifest.check(path).answers == {"a.wav": "SAID"}
    ((items, name),) = shown
    assert [Path(item).name for item in items] == ["a.wav"] and name == "audio_bytes"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"score": "test WER"}, "`score` must be one of test BLEU, got 'test WER'"),
        ({"folder": "nowhere"}, "'nowhere' does not exist"),
    ],
)
def test_what_cannot_be_shipped_leaves_nothing(zoo, tmp_path, fields, message, monkeypatch):
    monkeypatch.setattr("recipes.runs.show_answers", lambda *arguments: [])
    config = ship.Config(str(zoo / "run"), "other", ask="face", models=str(tmp_path / "zoo"))
    with pytest.raises((ValueError, OSError), match=message):
        ship.main(dataclasses.replace(config, **fields))
    assert not list(tmp_path.iterdir())


def test_a_model_that_no_recipe_made_is_refused(zoo, tmp_path):
    card = (zoo / "run/1/model_card.md").read_text().replace(COMMAND, "make me")
    (tmp_path / "model_card.md").write_text(card)
    (tmp_path / "metrics.json").write_bytes((zoo / "run/1/metrics.json").read_bytes())
    with pytest.raises(ValueError, match="`command` must be that of a recipe, got 'make me'"):
        ship.facts_of(tmp_path, None)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--folder", "x"], "`name` must be given with --folder"),
        (["--folder", "x", "--name", "x"], "`ask` must be given with --folder"),
        (["--folder", "x", "--name", "a/b", "--ask", "c"], "`name` must be letters, .* got 'a/b'"),
    ],
)
def test_flags_are_refused_by_name(words, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.parse(ship.Config, words)
    assert re.search(message, capsys.readouterr().err)


def test_help_comes_without_tensorflow():
    code = "import sys; from recipes import cli, ship\n"
    code += "try: cli.parse(ship.Config, ['--help'], ship.__doc__)\n"
    code += "except SystemExit: print('tensorflow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8")
    assert done.stdout.endswith("False\n"), done.stderr


def test_a_readme_without_the_two_marks_is_refused():
    with pytest.raises(ValueError, match=r"README\.md must hold the lines <!-- Written by"):
        ship.with_table("# The zoo\n", [])


# --- what is shipped -----------------------------------------------------------------------------


@pytest.fixture(params=["made-en", *SHIPPED])
def name(request, zoo, monkeypatch):
    """The name of the model made here, which stands in for a checkout's, or of a shipped one."""
    if request.param not in SHIPPED:
        monkeypatch.setenv("KZOO_MODELS", str(zoo / "saved_models"))
    return request.param


FRESH = """
import json, sys
import tensorflow as tf, tensorflow_text
path, name, contents = sys.argv[1], sys.argv[2], [bytes.fromhex(each) for each in sys.argv[3:]]
run = tf.saved_model.load(path).signatures["serving_default"]
more = dict.fromkeys(run.structured_input_signature[1], tf.constant(""))  # the language
answers = [
    run(**more | {name: tf.constant([each])})["text"].numpy()[0].decode() for each in contents
]
print(json.dumps([answers, "kzoo" in sys.modules]))
"""


def test_a_model_of_the_zoo_gives_its_known_answers_wherever_it_is_asked(name):
    path = names.find(name)
    facts = manifest.check(path)
    answers = list(facts.answers.values())
    assert facts.name == name and answers
    served = kzoo.load(name)
    is_file = served.content.is_file
    items = [str(path / item) if is_file else item for item in facts.answers]
    assert [served(item) for item in items] == answers
    contents = [each.hex() for each in served.content.as_bytes(items)]
    assert exported.python(FRESH, path, served.input_name, *contents) == [answers, False]
    command = [sys.executable, "-m", "kzoo", name, *items]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", cwd=path)
    assert done.stdout.splitlines() == answers, done.stderr


def test_a_manifest_of_the_zoo_says_what_the_card_and_the_metrics_say(name):
    path = names.find(name)
    facts = manifest.read(path)._asdict()
    for key, value in ship.facts_of(path, facts["score"]["metric"]).items():
        assert facts[key] == value
    assert np.isfinite(facts["score"]["value"])


def test_the_table_of_the_readme_is_what_the_command_writes():
    text = (ROOT / "saved_models/README.md").read_text(encoding="utf-8")
    assert ship.with_table(text, ship.shipped(ROOT / "saved_models")) == text


def test_git_ignores_models_but_those_that_are_shipped():
    lines = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    permitted = {line for line in lines if line.startswith("!saved_models/")}
    assert permitted == {"!saved_models/README.md", *(f"!saved_models/{n}/" for n in SHIPPED)}
    assert "saved_models/*/** -text" in (ROOT / ".gitattributes").read_text(encoding="utf-8")


def test_the_nodes_of_what_is_shipped_have_short_names_and_all_signatures_answer_alike(zoo):
    given, shipped = zoo / "run", zoo / "saved_models/made-en/1"
    given = folder.of_saved_model(given)
    sizes = [(path / "saved_model.pb").stat().st_size for path in (given, shipped)]
    assert sizes[1] < 0.8 * sizes[0]
    assert not (shipped / "fingerprint.pb").exists()
    before, after = (tf.saved_model.load(str(path)) for path in (given, shipped))
    assert sorted(before.signatures) == sorted(after.signatures)
    for name, signature in before.signatures.items():
        inputs = dict.fromkeys(signature.structured_input_signature[1], tf.constant(TEXTS))
        inputs |= {"prefix": tf.constant([""] * len(TEXTS))} if name == "complete" else {}
        found = after.signatures[name](**inputs)
        for output, value in signature(**inputs).items():
            np.testing.assert_array_equal(found[output], value)
