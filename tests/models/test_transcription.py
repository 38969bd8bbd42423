"""Long recordings by one window after the other, against transformers and by hand."""

import json

import numpy as np
import pytest
import tensorflow as tf

from kzoo.models import transcription
from kzoo.models.transcription import Doubts
from kzoo.pretrained import whisper

TEXTS = ["He said that she said so, didn't she?", "it is what it is", "( the end ) the end"]
MELS, STEPS = 9, 40  # a window is 80 frames, 0.8 s
BELIEVED = Doubts(no_speech=2.0, surely_no_speech=2.0, temperatures=())
T = 100  # the time 0 of the tests by hand


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """A random model of transformers and what is read out of its folder."""
    transformers = pytest.importorskip("transformers")
    tokenizers = pytest.importorskip("tokenizers")
    torch = pytest.importorskip("torch")
    folder = tmp_path_factory.mktemp("whisper")
    learnt = tokenizers.ByteLevelBPETokenizer()
    learnt.train_from_iterator(TEXTS * 3, vocab_size=290, min_frequency=2)
    names = (
        *("endoftext", "startoftranscript", "en", "de", "translate", "transcribe", "startoflm"),
        *("startofprev", "nospeech", "notimestamps"),
    )
    learnt.add_special_tokens([f"<|{name}|>" for name in names])
    learnt.save(str(folder / "tokenizer.json"))
    size = learnt.get_vocab_size() + STEPS + 1
    row = {name: learnt.token_to_id(f"<|{name}|>") for name in names}
    config = transformers.WhisperConfig(
        vocab_size=size, num_mel_bins=MELS, d_model=24, encoder_layers=1, decoder_layers=2,
        encoder_attention_heads=2, decoder_attention_heads=4, encoder_ffn_dim=48,
        decoder_ffn_dim=48, max_source_positions=STEPS, max_target_positions=40,
        decoder_start_token_id=row["startoftranscript"], bos_token_id=row["endoftext"],
        eos_token_id=row["endoftext"], pad_token_id=row["endoftext"], init_std=0.25,
        suppress_tokens=None, begin_suppress_tokens=None,
    )  # fmt: skip
    torch.manual_seed(5)
    theirs = transformers.WhisperForConditionalGeneration(config).eval()
    with torch.no_grad():  # now a time, now a text is the most probable token
        theirs.proj_out.weight[-STEPS - 1 :] *= 1.3
        theirs.model.decoder.embed_positions.weight *= 5
    settings = theirs.generation_config
    settings.suppress_tokens = [row[n] for n in names if n not in ("endoftext", "notimestamps")]
    settings.begin_suppress_tokens = [row["endoftext"]]
    settings.no_timestamps_token_id = row["notimestamps"]
    settings.max_initial_timestamp_index = 50
    settings.is_multilingual = True
    settings.lang_to_id = {"<|en|>": row["en"], "<|de|>": row["de"]}
    settings.task_to_id = {name: row[name] for name in ("translate", "transcribe")}
    theirs.save_pretrained(folder)
    return theirs, learnt, whisper.from_hugging_face(folder, language="de", task="translate")


def test_windows_and_segments_are_those_of_transformers(pair):
    import torch

    theirs, learnt, model = pair
    features = model.source_tokenizer.features
    signs = transcription.signs_of(model)


    @tf.function(input_signature=[tf.TensorSpec([None, None])])
    def ours_of(samples):
        found = transcription.transcribe(
            model, samples, max_length=20, length_penalty=0.0, doubts=BELIEVED
        )
        return found, transcription.segments(
            found, model.target_tokenizer, signs.times.first_id
        )

    pairs = 0
    for seed in range(4):
        rng = np.random.default_rng(seed)
        samples = rng.normal(size=(1, 20_000 + 4_100 * seed)) * rng.uniform(0.01, 0.3)
        samples = tf.constant(samples, tf.float32)
        found, ours = ours_of(samples)
        frames, counts = features.whole(samples)
        with torch.no_grad():
            said = theirs.generate(
                torch.tensor(frames.numpy()[:, : counts[0]].transpose(0, 2, 1)),
                attention_mask=torch.ones((1, int(counts[0])), dtype=torch.long),
                return_timestamps=True, return_segments=True, language="de", task="translate",
                condition_on_prev_tokens=False, max_new_tokens=20, do_sample=False, num_beams=1,
            )["segments"][0]  # fmt: skip
        # Theirs keep parts without words, and say that one without an end ends where it begins.
        first = theirs.generation_config.no_timestamps_token_id + 1
        expected = []
        for part in said:
            text = learnt.decode(part["tokens"].tolist()).strip()
            whole = int((part["tokens"] >= first).sum()) > 1
            if text:
                expected.append((text.encode(), float(part["end"]), whole))
        assert ours.parts[0].numpy().tolist() == [text for text, _, _ in expected], seed
        for own, (_, end, whole) in zip(ours.ends[0].numpy(), expected, strict=True):
            assert not whole or abs(own - end) < 1e-5, seed
        pairs += len(said) - found.ids.shape[1]
    assert pairs > 0  # some windows have several parts
