"""Models of several target languages: the input `language` gives what the tag in the text gives."""

import json

import numpy as np
import pytest
import tensorflow as tf
from exported import OPTIONS, TEXTS, multilingual, python, saved_model, transformer

import kzoo
from kzoo import export, text
from kzoo.__main__ import main
from kzoo.export import engine_card, warmup

CODES = ("de", "fr", "pt_BR")
BATCHING = {"max_batch_size": 5, "max_delay_ms": 1.0}


@pytest.fixture(scope="module")
def model():
    return multilingual()


@pytest.fixture(scope="module")
def path(model, tmp_path_factory):
    """Of a model that answers requests in batches; those of further tests do not."""
    folder = tmp_path_factory.mktemp("many") / "1"
    return export.save(model, folder, request_batching=BATCHING, **OPTIONS).path


@pytest.fixture(scope="module")
def served(path):
    return export.load(path)


def tagged(code, contents=TEXTS):
    return [f">>{code}<< {content}" for content in contents]


def test_a_language_gives_what_its_tag_gives_in_every_signature(served, model):
    generate = model.text_generator(beam_size=3, max_length=11, max_source_length=13)
    answers = {code: served(TEXTS, language=code) for code in CODES}
    assert len({*map(tuple, answers.values())}) == len(CODES)
    for code, found in answers.items():
        assert found == served(tagged(code)) == generate(tagged(code))
        assert served.n_best(TEXTS, language=code) == served.n_best(tagged(code))
        asked, written = served.align(TEXTS, language=code), served.align(tagged(code))
        for one, other in zip(asked, written, strict=True):
            assert one[:3] == other[:3] and one.source_tokens[0] == f"▁>>{code}<<"
            np.testing.assert_array_equal(one.weights, other.weights)
        asked = served.complete(TEXTS[0], "me", language=code)
        assert asked[:3] == served.complete(tagged(code)[0], "me")[:3]
        run = served._model.signatures["serving_xla"]
        compiled = run(text=tf.constant(TEXTS), language=tf.constant(code))["text"]
        assert [each.decode() for each in compiled.numpy()] == found


def test_each_text_can_have_its_own_language_and_without_one_it_is_the_first(served):
    codes = ["fr", "", "pt_BR"]
    mixed = served(TEXTS, language=codes)
    assert mixed == [
        served(content, language=code or "de") for content, code in zip(TEXTS, codes, strict=True)
    ]
    assert served(TEXTS) == served(TEXTS, language="de")
    assert served(tagged("fr")) == served(tagged("fr"), language=None)
    assert served(tagged("fr"), language="pt_BR") == served(TEXTS, language="pt_BR")
    assert served(["", " >>fr<< "], language="fr") == ["", ""]
    many = [*TEXTS, *tagged("fr")] * 7  # several batches of like length
    assert served(many) == [*served(TEXTS), *served(tagged("fr"))] * 7


def test_a_language_that_the_model_lacks_is_refused_with_those_it_has(served):
    rule = r"`language` must be one of de, fr, pt_BR, got it\."
    for ask in (
        lambda: served(TEXTS, language="it"),
        lambda: served([*TEXTS, ">>it<< a"]),
        lambda: served.n_best(TEXTS[0], language="it"),
        lambda: served.complete(TEXTS[0], "me", language="it"),
    ):
        with pytest.raises(ValueError, match=f"was refused: .*{rule}"):
            ask()
    for language in (["de"], [*CODES, "de"], 3, [b"de", b"fr", b"de"]):
        with pytest.raises(ValueError, match=r"`language` must be a str or a list of 3, one for"):
            served(TEXTS, language=language)
    assert served(TEXTS, language="fr") == served(tagged("fr"))  # it lives on


FRESH = """
import json, sys
import tensorflow as tf
import tensorflow_text

path, texts = sys.argv[1], json.loads(sys.argv[2])
run = tf.saved_model.load(path).signatures["serving_default"]

def asked(**inputs):
    return [each.decode() for each in run(text=tf.constant(texts), **inputs)["text"].numpy()]

answers = [asked(language=tf.constant(code)) for code in ("", "fr", ["fr", "de", ""])]
with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    graph = tf.compat.v1.saved_model.load(session, ["serve"], path)
    signature = graph.signature_def["serving_default"]
    names = {name: tensor.name for name, tensor in signature.inputs.items()}
    output, texts = signature.outputs["text"].name, {names["text"]: texts}
    for more in ({}, {names["language"]: "fr"}, {names["language"]: ["fr", "de", ""]}):
        answers.append([each.decode() for each in session.run(output, texts | more)])
    try:
        session.run(output, texts | {names["language"]: "it"})
    except tf.errors.InvalidArgumentError as error:
        answers.append("one of de, fr, pt_BR, got it, it, it." in error.message)
assert "kzoo" not in sys.modules
print(json.dumps(answers))
"""


def test_a_fresh_process_and_a_session_may_ask_for_a_language_and_a_session_need_not(path, served):
    expected = [served(TEXTS), served(TEXTS, "fr"), served(TEXTS, ["fr", "de", ""])]
    assert python(FRESH, path, json.dumps(TEXTS)) == [*expected, *expected, True]


def test_the_default_stands_in_the_file_for_servers(path):
    signatures = saved_model(path).meta_graphs[0].signature_def
    assert {"serving_default", "n_best", "align", "serving_xla", "complete"} <= set(signatures)
    for name, signature in signatures.items():
        if signature.inputs:
            assert list(signature.defaults) == ["language"], name
            assert tf.make_ndarray(signature.defaults["language"]) == b""
    requests = [inputs for _, inputs in warmup.read(path)]
    assert all(inputs["language"] == [b""] * len(inputs["text"]) for inputs in requests)
    names = dict(warmup.string_signatures(path))
    assert names["serving_default"] == ["text", "language"]
    assert names["complete"] == ["text", "prefix", "language"]


def test_a_model_of_one_language_has_no_such_input(tmp_path):
    path = export.save(
        transformer(), tmp_path / "1", signatures=["serving_default"], **OPTIONS
    ).path
    (signature,) = (
        each for each in saved_model(path).meta_graphs[0].signature_def.values() if each.inputs
    )
    assert list(signature.inputs) == ["text"] and not signature.defaults
    served = export.load(path)
    assert not served.takes_language
    with pytest.raises(ValueError, match=r"`language` needs a model of several .* language='fr'"):
        served(TEXTS, language="fr")
    assert "`language`" not in (path / "model_card.md").read_text(encoding="utf-8")


def test_the_command_takes_a_language(path, served, tmp_path, capsys):
    main([str(path), "--language", "fr", *TEXTS])
    assert capsys.readouterr().out.splitlines() == served(TEXTS, language="fr")
    main([str(path), TEXTS[0], "--language=pt_BR", "--n_best"])
    assert served(TEXTS[0], language="pt_BR") in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main([str(path), "--language", "it", TEXTS[0]])
    assert "`language` must be one of de, fr, pt_BR, got it." in capsys.readouterr().err
    export.save(transformer(), tmp_path / "1", signatures=["serving_default"], **OPTIONS)
    with pytest.raises(SystemExit):
        main([str(tmp_path), "--language", "fr", TEXTS[0]])
    assert "`--language` must be left out, as" in capsys.readouterr().err


def test_the_card_says_which_languages_there_are_and_how_to_ask_for_one(path):
    card = (path / "model_card.md").read_text(encoding="utf-8")
    assert "| target languages | de, fr, pt_BR; the first one where none is asked for |" in card
    assert 'text=tf.constant(["text"]), language=tf.constant("pt_BR"))' in card
    assert f'python -m kzoo {path} --language pt_BR "text"' in card


def test_the_card_for_another_engine_writes_the_tag(path, model):
    card = engine_card.ctranslate2_card(path, model, None, "4.6")
    assert 'source.encode(">>pt_BR<< text", out_type=str)' in card
    card = engine_card.tflite_card(path, transformer(), None, 13)
    assert 'source.encode("text")' in card


def test_a_model_with_marians_tags_takes_a_language_too(tmp_path):
    subwords = text.SubwordTokenizer.learn(TEXTS, 71)
    pieces = text.PieceTokenizer(
        subwords.proto, [*subwords.get_vocabulary(), ">>fra<<", ">>pt_BR<<", ">>deu<<"]
    )
    signatures = ["serving_default", "align"]
    saved = export.save(multilingual(pieces), tmp_path / "1", signatures=signatures, **OPTIONS)
    served = saved.served
    answers = {code: served(TEXTS, language=code) for code in pieces.languages}
    assert len({*map(tuple, answers.values())}) == 3
    for code, found in answers.items():
        assert found == served([f">>{code}<< {content}" for content in TEXTS])
    assert served(TEXTS) == answers["fra"]
    assert served.align(TEXTS[0], "deu").source_tokens[0] == ">>deu<<"


def test_a_model_loaded_again_knows_its_languages(path, served, tmp_path):
    model = kzoo.pretrained.load(path)
    assert model.source_tokenizer.languages == CODES
    saved = export.save(model, tmp_path / "1", signatures=["serving_default"], **OPTIONS)
    assert saved.served(TEXTS, language="fr") == served(TEXTS, language="fr")
