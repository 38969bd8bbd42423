"""Models of pictures: they learn, and are served as JPEG bytes in, sentences out."""

import base64
import io
import json

import keras
import numpy as np
import PIL.Image
import pytest
import tensorflow as tf
from exported import python, saved_model
from loaders import LOADERS

from kzoo import batching, export, zoo
from kzoo.__main__ import main
from kzoo.export.served import rule as rule_of
from kzoo.image import ImageSource, backbones
from kzoo.text import CharacterTokenizer, WordTokenizer

SIZE, SIDE, BEAMS, LONGEST = 48, 6, 3, 11
OPTIONS = {"beam_size": BEAMS, "max_length": LONGEST, "length_penalty": 0.0}
ONE = ["serving_default"]  # for tests that ask for no other: each takes seconds to trace
ZOO = {
    "show_attend_tell": {"units": 13},
    "captioning_transformer": {
        "units": 8, "num_layers": 1, "decoder_layers": 2, "num_heads": 2, "hidden_units": 11
    },
}  # fmt: skip
each_model = pytest.mark.parametrize("name", ZOO)


def make(name, tokenizer, size=SIZE, **options):
    backbone = backbones.small_resnet(SIZE, widths=(3, 5, 7))
    return getattr(zoo, name)(ImageSource(size), tokenizer, backbone, **ZOO[name] | options)


def built(model):
    """Random weights, large enough that every picture has an answer of its own."""
    model({"source": tf.ones((1, SIZE, SIZE, 3)), "target": tf.constant([[1, 5]])})
    for weight in model.weights:
        if weight.shape.rank == 2:
            weight.assign(2.5 * weight)
    return model


@pytest.fixture(scope="module")
def models():
    keras.utils.set_random_seed(3)
    letters = CharacterTokenizer.learn(["a quick brown fox"], 71)
    return {name: built(make(name, letters)) for name in ZOO}


@pytest.fixture(scope="module")
def paths(models, tmp_path_factory):
    folder = tmp_path_factory.mktemp("captions")
    return {name: export.save(m, folder / name / "1", **OPTIONS) for name, m in models.items()}


@pytest.fixture(scope="module")
def served(paths):
    return {name: export.load(path) for name, path in paths.items()}


def picture(height, width, seed):
    """Large coloured patches, so that a small picture of it is no average grey."""
    random = np.random.default_rng(seed)
    return np.kron(random.uniform(0, 255, (3, 4, 3)), np.ones((height // 3, width // 4, 1)))


def encoded(pixels, kind="JPEG", mode="RGB"):
    stream = io.BytesIO()
    PIL.Image.fromarray(np.uint8(pixels)).convert(mode).save(stream, kind)
    return stream.getvalue()


PICTURES = [encoded(picture(60, 80, 1)), encoded(picture(90, 40, 2), "PNG"),
            encoded(picture(60, 48, 3), "BMP")]  # fmt: skip


@each_model
def test_the_signatures_take_bytes_and_have_the_promised_outputs(paths, name):
    found = dict(saved_model(paths[name]).meta_graphs[0].signature_def)
    found.pop("__saved_model_init_op")
    outputs = {
        "serving_default": {"text", "score"},
        "n_best": {"text", "score", "log_prob"},
        "align": {"text", "source_tokens", "target_tokens", "alignment"},
        "complete": {"text", "score", "target_tokens", "token_log_prob"},
    }
    assert found.keys() == outputs.keys()
    for signature, names in outputs.items():
        arguments = {name: tf.as_dtype(i.dtype) for name, i in found[signature].inputs.items()}
        assert arguments.pop("image_bytes") == tf.string
        assert list(arguments) == (["prefix"] if signature == "complete" else [])
        assert set(found[signature].outputs) == names


@each_model
def test_no_op_needs_xla_or_python(paths, name):
    graph = saved_model(paths[name]).meta_graphs[0].graph_def
    ops = {node.op for f in graph.library.function for node in f.node_def}
    assert {"While", "DecodeJpeg", "Conv2D"} <= ops
    assert not [op for op in ops if op.startswith("Xla") or "PyFunc" in op or "Dataset" in op]


def test_a_fresh_process_and_a_session_answer_as_the_model_does(paths, served):
    contents = json.dumps([base64.b64encode(content).decode() for content in PICTURES])
    bad = "RIFF, a sound and no picture at all"
    answers = python(LOADERS, "image_bytes", bad, contents, *paths.values())
    for name, loaded in zip(paths, answers, strict=True):
        best = [pairs[0] for pairs in served[name].n_best(PICTURES)]
        for outputs in loaded:
            assert outputs["text"] == [answer for answer, _ in best]
            np.testing.assert_allclose(outputs["score"], [score for _, score in best], rtol=1e-3)
        assert "expected the bytes of a JPEG, PNG, GIF or BMP" in loaded[1]["error"]


@each_model
def test_the_graph_computes_what_generate_does_and_neighbours_change_nothing(models, served, name):
    model, together = models[name], served[name].n_best(PICTURES)
    for content, pairs in zip(PICTURES, together, strict=True):
        source, _ = model.source_tokenizer.read([content], 64)
        np.testing.assert_array_equal(model.source_tokenizer(tf.constant([content])), source)
        found = model.generate(source, **OPTIONS)
        expected = model.target_tokenizer.detokenize(found.ids[0]).numpy()
        assert [answer for answer, _ in pairs] == [answer.decode() for answer in expected]
        np.testing.assert_allclose([score for _, score in pairs], found.scores[0], rtol=1e-3)
    scores = [pairs[0][1] for pairs in together]
    assert min(abs(np.diff(sorted(scores)))) > 0.01  # or this would show nothing


@each_model
def test_steps_equal_the_whole_and_features_may_stand_for_the_pixels(models, name):
    model = models[name]
    source, _ = model.source_tokenizer.read(PICTURES, 64)
    target = tf.constant([[1, 5, 6, 7], [1, 9, 4, 8], [1, 5, 5, 11]])
    outputs = model({"source": source, "target": target})
    assert outputs["weights"].shape == (3, 4, SIDE**2)
    prepared = model.prepare(source)
    state = model.decoder.initial_state(prepared, max_length=4)
    for t in range(4):
        hidden, weights, state = model.decoder.step(target[:, t], state, t, prepared)
        np.testing.assert_allclose(hidden, outputs["hidden"][:, t], rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(weights, outputs["weights"][:, t], rtol=1e-3, atol=1e-4)
    features = model.encoder.regions(source)
    again = model({"source": features, "target": target})
    np.testing.assert_allclose(again["logits"], outputs["logits"], rtol=1e-3, atol=1e-3)


@each_model
def test_a_file_gives_the_model_back_and_half_precision_is_served_in_float32(name, tmp_path):
    letters = CharacterTokenizer.learn(["a quick brown fox"], 71)
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        model = built(make(name, letters))
    finally:
        keras.mixed_precision.set_global_policy("float32")
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    source, _ = again.source_tokenizer.read(PICTURES[:2], 64)
    inputs = {"source": source, "target": tf.constant([[1, 5, 6], [1, 7, 8]])}
    expected = tf.cast(model(inputs)["logits"], tf.float32)
    np.testing.assert_allclose(tf.cast(again(inputs)["logits"], tf.float32), expected, atol=1e-3)
    answer = export.load(export.save(again, tmp_path / "1", signatures=ONE, **OPTIONS))(PICTURES[0])
    assert isinstance(answer, str)


@each_model
def test_alignments_are_about_the_regions_of_the_grid(served, name):
    for found in served[name].align(PICTURES):
        expected = [f"{row},{column}" for row in range(SIDE) for column in range(SIDE)]
        assert found.source_tokens == expected
        assert found.weights.shape == (len(found.target_tokens), SIDE**2)
        np.testing.assert_allclose(found.weights.sum(1), 1, rtol=1e-4)


@each_model
def test_odd_pictures_get_an_answer(served, name, tmp_path):
    ask = served[name]
    wide = np.repeat(picture(9, 1200, 5), 10, axis=1)[:, :12_000]
    odd = [
        encoded(np.zeros((1, 1, 3))), encoded(wide), encoded(picture(60, 80, 1), "JPEG", "CMYK"),
        encoded(picture(60, 80, 1), "PNG", "RGBA"), encoded(picture(60, 80, 1), "GIF", "L"),
    ]  # fmt: skip
    assert all(isinstance(answer, str) for answer in ask(odd))
    assert ask([]) == []


@each_model
def test_what_is_no_picture_is_refused_by_name_and_the_model_lives_on(served, name, tmp_path):
    (tmp_path / "sound.jpg").write_bytes(tf.audio.encode_wav(tf.zeros((99, 1)), 8000).numpy())
    (tmp_path / "good.jpg").write_bytes(PICTURES[0])
    answer = served[name](tmp_path / "good.jpg")
    assert answer == served[name](PICTURES[0])
    with pytest.raises(ValueError, match=r"sound\.jpg was refused: .*expected the bytes of a JPEG"):
        served[name]([tmp_path / "good.jpg", str(tmp_path / "sound.jpg")])
    for content in PICTURES:
        with pytest.raises(ValueError, match=r"bytes was refused: "):
            served[name](content[: len(content) // 2])
    with pytest.raises(ValueError, match="`contents` must be a path or bytes of a picture"):
        served[name]([3])
    assert served[name](tmp_path / "good.jpg") == answer


def test_why_a_picture_was_refused_is_one_line_without_names_of_nodes(served):
    ask = served["show_attend_tell"]
    for kind in ("JPEG", "PNG", "GIF", "BMP"):
        content = encoded(picture(60, 80, 1), kind)
        rule = (
            r"90 bytes was refused: (In|a (GIF|BMP) must [^\[\]]*$)"  # "Invalid ..." of TensorFlow
        )
        with pytest.raises(ValueError, match=rule) as error:
            ask(content[:90])
        for part in ("\n", "[Op:", "{{", "Graph execution", "Detected at"):
            assert part not in str(error.value), kind
    eager = (
        "{{function_node __wrapped__DecodePng_device_/job:localhost}} Invalid PNG [Op:DecodePng]"
    )
    assert rule_of(eager) == "Invalid PNG"


def test_the_limit_of_megapixels_is_that_of_the_export(models, tmp_path):
    path = export.save(
        models["show_attend_tell"], tmp_path / "1", signatures=ONE, max_source_length=1, **OPTIONS
    )
    ask = export.load(path)
    assert isinstance(ask(encoded(np.zeros((1000, 1000, 3)))), str)
    with pytest.raises(ValueError, match=r"must have 1 to 1,000,000 pixels.*1001.*1000"):
        ask(encoded(np.zeros((1000, 1001, 3))))
    assert "at most 1 megapixels" in (path / "model_card.md").read_text()
    assert "python -m kzoo" in (path / "model_card.md").read_text()
    assert "a JPEG or PNG is turned as its EXIF data say" in (path / "model_card.md").read_text()
    with pytest.raises(ValueError, match='`precision` must be "bfloat16" for texts alone'):
        export.save(models["show_attend_tell"], tmp_path / "2", precision="bfloat16")


def test_the_command_answers_pictures(paths, served, tmp_path, capsys):
    name = "show_attend_tell"
    for index, content in enumerate(PICTURES):
        (tmp_path / f"{index}.jpg").write_bytes(content)
    main([str(paths[name]), *(str(tmp_path / f"{index}.jpg") for index in range(3))])
    assert capsys.readouterr().out.splitlines() == served[name](PICTURES)
    (tmp_path / "bad.jpg").write_bytes(PICTURES[0][:99])
    with pytest.raises(SystemExit):
        main([str(paths[name]), str(tmp_path / "bad.jpg")])
    assert "bad.jpg was refused" in capsys.readouterr().err
    for arguments in ([""], ["--json", str(tmp_path / "0.jpg")]):
        with pytest.raises(SystemExit):
            main([str(paths[name]), *arguments])
        rule = "TEXT must name a file, as the model reads files, got ''\n"
        if arguments[0]:
            rule = "`--json` needs a model of speech that knows times, as those of kzoo import w"
        assert rule in capsys.readouterr().err


@each_model
def test_a_source_and_a_backbone_of_two_sizes_are_refused(name):
    letters = CharacterTokenizer.learn(["fox"], 71)
    with pytest.raises(ValueError, match="must be of one size, got 64 and 48 pixels of a side"):
        make(name, letters, size=64)
    with pytest.raises(ValueError, match="`size` must be at least 1, got size=0"):
        ImageSource(0)


COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "white": (255, 255, 255)}


def squares(seed, count):
    """Two squares of different colours, and which is left of which."""
    random = np.random.default_rng(seed)
    pixels, captions = np.zeros((count, SIZE, SIZE, 3), np.float32), []
    for row in pixels:
        left, right = random.choice(list(COLOURS), 2, replace=False)
        for name, start in ((left, 2), (right, 26)):
            top, shift = random.integers(2, 30, 1)[0], random.integers(0, 6)
            row[top : top + 14, start + shift : start + shift + 14] = COLOURS[name]
        captions.append(f"a {left} square left of a {right} one")
    return pixels, captions


@pytest.mark.slow
@each_model
def test_a_model_learns_to_say_what_is_where(name):
    keras.utils.set_random_seed(1)
    pixels, captions = squares(0, 600)
    words = WordTokenizer.learn(captions, 30)
    options = {"show_attend_tell": {"units": 64, "dropout": 0.1}}
    options["captioning_transformer"] = {
        "units": 64, "num_layers": 1, "decoder_layers": 1, "num_heads": 4, "hidden_units": 128
    }  # fmt: skip
    backbone = backbones.small_resnet(SIZE, widths=(8, 16, 32))
    model = getattr(zoo, name)(ImageSource(SIZE), words, backbone, **options[name])
    ids = words.tokenize(captions)
    inputs, labels = batching.teacher_forcing(ids, ids)
    inputs["source"] = pixels
    model.compile(keras.optimizers.Adam(3e-3))
    model.fit(inputs, labels, batch_size=30, epochs=16, verbose=0)
    seen, expected = squares(1, 50)
    found = model.generate(seen, beam_size=1, max_length=12)
    answers = [answer.decode() for answer in words.detokenize(found.ids[:, 0]).numpy()]
    right = np.mean([answer == text for answer, text in zip(answers, expected, strict=True)])
    assert right > 0.8, (right, answers[:5], expected[:5])
