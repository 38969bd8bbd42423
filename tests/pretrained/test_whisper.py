"""Randomly initialised Whispers against transformers; no file and no network is needed."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from kzoo import export, models, pretrained
from kzoo.pretrained import whisper
from kzoo.pretrained.whisper_vocabulary import LANGUAGES, not_speech, whisper_vocabulary
from kzoo.text import ByteVocabulary, byte_alphabet, read_byte_vocabulary

transformers = pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")
torch = pytest.importorskip("torch")
whisper_models = pytest.importorskip("whisper_models")

SPECIALS = {
    "en": (),
    "many": ("en", "de", "ja", "translate", "transcribe", "startoflm", "startofprev", "nospeech"),
}
MELS, STEPS, TIMES = 9, 13, 5


def make(folder, kind):
    """A folder of transformers with a random model and a tokenizer learnt on TEXTS."""
    names = ("endoftext", "startoftranscript", *SPECIALS[kind], "notimestamps")
    learnt = whisper_models.learnt_tokenizer(folder, names)
    # OpenAI's feed-forward networks have four times the features, and so has "many", for its test.
    hidden = {"en": (20, 28), "many": (96, 96)}[kind]
    model = whisper_models.random_model(
        learnt, TIMES, seed=3, num_mel_bins=MELS, encoder_layers=2, decoder_layers=3,
        encoder_ffn_dim=hidden[0], decoder_ffn_dim=hidden[1], max_source_positions=STEPS,
        max_target_positions=30, init_std=0.3,
    )  # fmt: skip
    start, end = (learnt.token_to_id(f"<|{name}|>") for name in ("startoftranscript", "endoftext"))
    model.generation_config.suppress_tokens = [4, 77, start]
    model.generation_config.begin_suppress_tokens = [learnt.token_to_id("Ġ"), end]
    model.save_pretrained(folder)
    return model, learnt


@pytest.fixture(scope="module", params=SPECIALS)
def pair(request, tmp_path_factory):
    """A model of transformers, its folder, and what is read out of it."""
    folder = tmp_path_factory.mktemp(request.param)
    theirs, learnt = make(folder, request.param)
    options = {} if request.param == "en" else {"language": "de", "task": "translate"}
    return theirs, learnt, folder, whisper.from_hugging_face(folder, **options), options


def frames(rows):
    return np.random.default_rng(rows).normal(size=(rows, 2 * STEPS, MELS)).astype("float32")


def vocabulary_of(pair):
    theirs, _, folder, _, _ = pair
    return whisper_vocabulary(read_byte_vocabulary(folder), theirs.config.vocab_size, folder)


def prompt_of(pair):
    """Start and prompt in the rows of the published table."""
    _, learnt, _, model, _ = pair
    names = {
        1: ["notimestamps"],
        3: ["de", "translate", "notimestamps"],
    }[len(model.prompt)]
    return [learnt.token_to_id(f"<|{name}|>") for name in ("startoftranscript", *names)]


def test_logits_are_those_of_transformers(pair):
    theirs, _, _, model, _ = pair
    vocabulary, prompt = vocabulary_of(pair), prompt_of(pair)
    rows = np.random.default_rng(1).integers(0, 280, (3, 5))
    with torch.no_grad():
        expected = theirs(
            input_features=torch.tensor(frames(3).swapaxes(1, 2)),
            decoder_input_ids=torch.tensor([[*prompt, *row] for row in rows.tolist()]),
        ).logits.numpy()[:, len(prompt) - 1 :]
    ids = np.array([vocabulary.ids(row) for row in rows])
    target = np.concatenate([np.ones((3, 1), int), ids], 1)
    logits = model({"source": frames(3), "target": target})["logits"].numpy()
    known = vocabulary.rows >= 0
    np.testing.assert_allclose(
        logits[:, :, known], expected[:, :, vocabulary.rows[known]], atol=1e-4
    )
    share = tf.nn.softmax(logits).numpy()[:, :, ~known]
    assert share.shape[-1] == 2 and share.max() < 1e-30


@pytest.mark.parametrize("beam_size", [1, 3])
def test_ids_are_those_of_generate(pair, beam_size):
    theirs, _, _, model, _ = pair
    vocabulary, prompt = vocabulary_of(pair), prompt_of(pair)
    config = theirs.generation_config
    expected = transformers.GenerationMixin.generate(
        theirs, input_features=torch.tensor(frames(7).swapaxes(1, 2)),
        decoder_input_ids=torch.tensor([prompt] * 7), max_new_tokens=9, num_beams=beam_size,
        do_sample=False, length_penalty=1.0, suppress_tokens=config.suppress_tokens,
        begin_suppress_tokens=config.begin_suppress_tokens,
    ).numpy()[:, len(prompt) :]  # fmt: skip
    generate = tf.function(model.generate)
    found = generate(
        tf.constant(frames(7)), beam_size=beam_size, max_length=9, length_penalty=1.0,
        length_normalization="length", finished_apart=True, best_only=True,
    )  # fmt: skip
    end = int(vocabulary.rows[2])
    for row, ids in zip(expected.tolist(), found.ids[:, 0].numpy().tolist(), strict=True):
        mine = [int(vocabulary.rows[i]) for i in ids if i]
        assert [i for i in mine if i != end] == [i for i in row if i != end]


def test_texts_are_those_of_its_tokenizer(pair):
    _, learnt, _, model, _ = pair
    vocabulary, tokenizer = vocabulary_of(pair), model.target_tokenizer
    ids = [
        vocabulary.rows[row].tolist() for row in tokenizer.tokenize(whisper_models.TEXTS).to_list()
    ]
    assert ids == [learnt.encode(f" {text}").ids for text in whisper_models.TEXTS]
    special = [1, *model.prompt, *tokenizer.tokenize("the end").numpy(), 2, 0]
    assert tokenizer.detokenize([special]).numpy().tolist() == [b"the end"]
    assert tokenizer.get_vocabulary()[-TIMES:] == [
        "<|0.00|>",
        "<|0.02|>",
        "<|0.04|>",
        "<|0.06|>",
        "<|0.08|>",
    ]


def test_a_short_window_is_read_with_the_first_positions(pair):
    _, _, folder, model, options = pair
    short = whisper.from_hugging_face(folder, clip_seconds=0.1, **options)
    assert short.source_tokenizer.features.num_frames == 10
    memory, mask, *_ = short.encoder(frames(2)[:, :10])
    again, *_ = model.encoder(frames(2)[:, :10])
    assert memory.shape == (2, 5, 24) and np.all(mask)
    np.testing.assert_allclose(memory, again, atol=1e-5)


def openai_file(model, path):
    """The model as OpenAI's .pt file has it."""
    renames = (
        *(("model.", ""), (".layers.", ".blocks."), ("self_attn_layer_norm", "attn_ln")),
        *(("encoder_attn_layer_norm", "cross_attn_ln"), ("final_layer_norm", "mlp_ln")),
        *(("self_attn", "attn"), ("encoder_attn", "cross_attn"), ("q_proj", "query")),
        *(("k_proj", "key"), ("v_proj", "value"), ("out_proj", "out"), ("fc1", "mlp.0")),
        *(("fc2", "mlp.2"), ("embed_positions.weight", "positional_embedding")),
        *(("embed_tokens", "token_embedding"), ("encoder.layer_norm", "encoder.ln_post")),
        ("decoder.layer_norm", "decoder.ln"),
    )
    state = {}
    for name, tensor in model.state_dict().items():
        for old, new in renames:
            name = name.replace(old, new)
        state[name] = tensor.clone()
    del state["proj_out.weight"]
    config = model.config
    dims = {
        "n_mels": MELS, "n_audio_ctx": STEPS, "n_audio_state": config.d_model,
        "n_audio_head": config.encoder_attention_heads, "n_audio_layer": config.encoder_layers,
        "n_vocab": config.vocab_size, "n_text_ctx": config.max_target_positions,
        "n_text_state": config.d_model, "n_text_head": config.decoder_attention_heads,
        "n_text_layer": config.decoder_layers,
    }  # fmt: skip
    torch.save({"dims": dims, "model_state_dict": state}, path)


def test_a_file_of_openai_gives_the_same_model(pair, tmp_path):
    theirs, _, folder, model, options = pair
    if not options:
        pytest.skip("the sizes of this one are none of OpenAI's")
    openai_file(theirs, tmp_path / "tiny.pt")
    with pytest.raises(FileNotFoundError, match="needs its vocabulary beside it"):
        whisper.from_openai(tmp_path / "tiny.pt")
    (tmp_path / "tokenizer.json").symlink_to(folder / "tokenizer.json")
    found = whisper.from_openai(tmp_path / "tiny.pt", **options)
    inputs = {"source": frames(2), "target": np.array([[1, 9], [1, 8]])}
    np.testing.assert_array_equal(found(inputs)["logits"], model(inputs)["logits"])
    assert found.prompt == model.prompt
    signs = found.target_tokenizer.tokens([list(found.suppressed)]).numpy()[0].tolist()
    assert signs[:2] == [b"<s>", b'"'] and b"<|translate|>" in signs


@pytest.mark.parametrize("quantization", [None, "int8"])
def test_a_folder_of_ctranslate2_gives_the_same_model(pair, tmp_path, quantization):
    converters = pytest.importorskip("ctranslate2.converters")
    _, _, folder, model, options = pair
    (copy := tmp_path / "copy").mkdir()
    for file in folder.iterdir():
        (copy / file.name).symlink_to(file)
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    config = tmp_path / "tokenizer" / "tokenizer_config.json"
    (copy / "tokenizer_config.json").write_text(config.read_text())
    converter = converters.TransformersConverter(str(copy))
    converter.convert(str(tmp_path / "ct2"), quantization=quantization)
    (tmp_path / "ct2" / "tokenizer.json").symlink_to(folder / "tokenizer.json")
    found = whisper.from_ctranslate2(tmp_path / "ct2", **options)
    inputs = {"source": frames(2), "target": np.array([[1, 9], [1, 8]])}
    expected = model(inputs)["logits"].numpy()
    tolerance = 1e-5 if quantization is None else 0.05 * np.ptp(expected[:, :, 4:])
    np.testing.assert_allclose(found(inputs)["logits"], expected, atol=tolerance)
    same = ("prompt", "suppressed", "suppressed_first")
    assert [getattr(found, name) for name in same] == [getattr(model, name) for name in same]


def test_a_keras_file_holds_all_of_it(pair, tmp_path):
    *_, model, _ = pair
    model.save(tmp_path / "whisper.keras")
    again = keras.saving.load_model(tmp_path / "whisper.keras")
    options = {"beam_size": 2, "max_length": 5}
    expected = model.generate(frames(2), **options)
    np.testing.assert_array_equal(again.generate(frames(2), **options).ids, expected.ids)
    assert (again.prompt, again.suppressed) == (model.prompt, model.suppressed)
    assert not again.encoder.encoder.positions.trainable


def test_it_is_fine_tuned_by_fit(pair):
    _, _, folder, _, options = pair
    if not options:
        pytest.skip("one of both is enough")
    model = whisper.from_hugging_face(folder, **options)
    ids = model.target_tokenizer.tokenize(["the end", "it is"]).to_tensor().numpy()
    labels = np.pad(ids, [[0, 0], [0, 1]])
    labels[np.arange(2), (ids > 0).sum(1)] = 2
    inputs = {
        "source": frames(2),
        "target": np.pad(labels[:, :-1], [[0, 0], [1, 0]], constant_values=1),
    }
    before = np.array(model.encoder.encoder.positions.table)
    model.compile(keras.optimizers.Adam(3e-3), run_eagerly=True)
    losses = model.fit(inputs, labels, epochs=3, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    np.testing.assert_array_equal(model.encoder.encoder.positions.table, before)


def test_a_folder_that_suppresses_nothing_is_taken_at_its_word(pair, tmp_path):
    folder = pair[2]
    for file in ("model.safetensors", "tokenizer.json"):
        (tmp_path / file).symlink_to(folder / file)
    config = json.loads((folder / "config.json").read_text())
    for names, suppressed in (({"suppress_tokens": [4]}, 1), ({"suppress_tokens": None}, 0)):
        names |= {"begin_suppress_tokens": None}
        (tmp_path / "config.json").write_text(json.dumps(config | names))
        found = whisper.from_hugging_face(tmp_path)
        assert (len(found.suppressed), found.suppressed_first) == (suppressed, ())
    del config["suppress_tokens"], config["begin_suppress_tokens"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    found = whisper.from_hugging_face(tmp_path)
    assert len(found.suppressed) > 3 and len(found.suppressed_first) == 2  # of OpenAI's code


def test_a_head_with_a_table_of_its_own_is_refused(pair, tmp_path):
    theirs, _, folder, model, options = pair
    for file in ("tokenizer.json", "generation_config.json"):
        (tmp_path / file).symlink_to(folder / file)
    theirs = transformers.WhisperForConditionalGeneration.from_pretrained(
        folder, tie_word_embeddings=False
    )
    table = theirs.model.decoder.embed_tokens.weight.detach().clone()
    theirs.proj_out.weight = torch.nn.Parameter(table)
    theirs.save_pretrained(tmp_path)
    inputs = {"source": frames(2), "target": np.array([[1, 9], [1, 8]])}
    found = whisper.from_hugging_face(tmp_path, **options)
    np.testing.assert_array_equal(found(inputs)["logits"], model(inputs)["logits"])
    theirs.proj_out.weight = torch.nn.Parameter(table.flip(0))
    theirs.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="must have one table for the decoder's embedding and he"):
        whisper.from_hugging_face(tmp_path, **options)


def test_bad_folders_are_refused(pair, tmp_path):
    _, _, folder, _, _ = pair
    for file in ("model.safetensors", "tokenizer.json", "generation_config.json"):
        (tmp_path / file).symlink_to(folder / file)
    config = json.loads((folder / "config.json").read_text())

    def with_(**entries):
        (tmp_path / "config.json").write_text(json.dumps(config | entries))
        return whisper.from_hugging_face(tmp_path)

    with pytest.raises(ValueError, match="must have an integer 'd_model', got None"):
        with_(d_model=None)
    with pytest.raises(ValueError, match="must have the activation_function 'gelu'"):
        with_(activation_function="relu")
    with pytest.raises(ValueError, match="must have the shape"):
        with_(max_source_positions=STEPS + 1)
    with pytest.raises(ValueError, match="must hold a Whisper model alone, got 15 further weights"):
        with_(encoder_layers=1)
    with pytest.raises(ValueError, match="must name the 400 tokens of the model"):
        whisper_vocabulary(ByteVocabulary({"a": 0}, [], {"<|endoftext|>": 1}), 400, "x")
    with pytest.raises(ValueError, match="`language`"):
        whisper.from_hugging_face(folder, language="xx")
    with pytest.raises(ValueError, match=r"`clip_seconds` must be at most 0\.26"):
        whisper.from_hugging_face(folder, clip_seconds=0.28)


def test_heads_of_a_teacher_with_more_blocks_are_left_out(pair):
    _, _, folder, *_ = pair
    path = folder / "generation_config.json"
    config = json.loads(path.read_text())
    for heads, kept in (([[1, 3], [25, 0], [2, 4]], [(1, 3)]), ([[25, 0]], None)):
        path.write_text(json.dumps(config | {"alignment_heads": heads}))
        assert whisper.from_hugging_face(folder).decoder.alignment_heads == kept
    path.write_text(json.dumps(config))


def test_a_model_of_many_languages_is_told_one_and_an_answer_has_its_positions(pair, tmp_path):
    _, _, folder, _, options = pair
    if not options:
        with pytest.raises(ValueError, match="'en' and 'transcribe' for an English-only model"):
            pretrained.load(folder, language="de")
        return
    model = pretrained.load(folder, language="ja", task="translate")
    names = model.target_tokenizer.get_vocabulary()
    expected = ["<|ja|>", "<|translate|>", "<|notimestamps|>"]
    assert [names[id_] for id_ in model.prompt] == expected
    message = "`max_length` must be at most 27, as the model has positions for 30 tokens, of which"
    with pytest.raises(ValueError, match=message):
        export.save(model, tmp_path / "1", max_length=28)


def test_ranks_alone_name_the_special_tokens_of_each_table():
    from transformers.models.whisper.tokenization_whisper import LANGUAGES as THEIRS

    assert list(LANGUAGES) == list(THEIRS)
    alphabet = byte_alphabet()
    for texts, size in ((50_256, 51_864), (50_257, 51_865), (50_257, 51_866)):
        pieces = {sign: row for row, sign in enumerate(alphabet)}
        pieces |= {alphabet[row // 256] * 2 + alphabet[row % 256]: row for row in range(256, texts)}
        found = whisper_vocabulary(ByteVocabulary(pieces, [], {}), size, "x.tiktoken")
        names = found.tokenizer.get_vocabulary()
        assert names[-1] == "<|30.00|>" and names[-1501] == "<|0.00|>"
        assert int(found.rows[2]) == texts and int(found.rows[1]) == texts + 1
        assert ("<|yue|>" in names) == (size == 51_866)
        assert not_speech(found)[0][0] == 1


def test_an_export_answers_wav_bytes_in_a_session_of_version_1(pair, tmp_path):
    *_, model, options = pair
    if not options:
        pytest.skip("one of both is enough")
    search = {"beam_size": 2, "max_length": 6}
    doubts = models.Doubts(temperatures=())  # `generate` draws nothing anew
    export.save(model, tmp_path / "1", signatures=["serving_default"], doubts=doubts, **search)
    sounds = np.random.default_rng(1).normal(size=(2, 4000, 1)).astype("float32") / 9
    files = [tf.audio.encode_wav(sound, 16_000).numpy() for sound in sounds]
    inputs, _ = model.read_source(tf.constant(files), 60)
    expected = model.target_texts(model.generate(**inputs, **search).ids[:, 0]).numpy()
    empty = tf.audio.encode_wav(tf.zeros((0, 1)), 8_000).numpy()
    sound = np.random.default_rng(2).normal(size=(1, 9_000)).astype("float32") / 9
    sound = tf.audio.decode_wav(tf.audio.encode_wav(sound.T, 16_000)).audio[:, 0][None]
    transcript = models.transcribe(model, sound, word_times=False, doubts=doubts, **search)
    assert transcript.ids.shape[1] > 1  # windows of 0.26 s
    long = tf.audio.encode_wav(tf.transpose(sound), 16_000).numpy()
    expected = [*expected, *models.segments(transcript, model).texts.numpy()]
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        loaded = tf.compat.v1.saved_model.load(session, ["serve"], str(tmp_path / "1"))
        signature = loaded.signature_def["serving_default"]
        given, out = signature.inputs["audio_bytes"].name, signature.outputs["text"].name
        found = session.run(out, {given: [files[0], long, empty, files[1]]})
        assert found.tolist() == [expected[0], expected[2], b"", expected[1]]
