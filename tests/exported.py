"""Small models whose exports are tested, and fresh processes that know nothing of kzoo."""

import json
import subprocess
import sys

import keras
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from kzoo import text
from kzoo.layers.attention import LuongAttention
from kzoo.layers.attention_decoder import AttentionDecoder
from kzoo.layers.embedding import TokenEmbedding
from kzoo.layers.head import VocabularyHead
from kzoo.layers.recurrent_encoder import RecurrentEncoder
from kzoo.layers.transformer import TransformerDecoder, TransformerEncoder
from kzoo.models import Seq2Seq

TEXTS = [
    "Two young men are outside.",
    "A little girl climbing into a wooden playhouse.",
    "Several men in hard hats are operating a giant pulley system.",
]
BEAMS, LONGEST = 3, 11
OPTIONS = {"beam_size": BEAMS, "max_length": LONGEST, "max_source_length": 13}


def transformer():
    keras.utils.set_random_seed(6)
    tokenizer = text.SubwordTokenizer.learn(TEXTS, 71)
    embedding = TokenEmbedding(tokenizer.vocabulary_size(), 16, scale=True)
    encoder = TransformerEncoder(embedding, 2, 2, 23, dropout=0.1)
    decoder = TransformerDecoder(embedding, 2, 2, 23, dropout=0.1)
    head = VocabularyHead(tokenizer.vocabulary_size(), 16, embedding, use_bias=False)
    return built(Seq2Seq(encoder, decoder, head, tokenizer, tokenizer))


def multilingual(tokenizer=None):
    """A transformer of three target languages, which answers differently in each."""
    keras.utils.set_random_seed(6)
    languages = ("de", "fr", "pt_BR")
    tokenizer = tokenizer or text.SubwordTokenizer.learn(TEXTS, 71, languages=languages)
    embedding = TokenEmbedding(tokenizer.vocabulary_size(), 16, scale=True)
    encoder = TransformerEncoder(embedding, 1, 2, 23)
    decoder = TransformerDecoder(embedding, 1, 2, 23)
    head = VocabularyHead(tokenizer.vocabulary_size(), 16)
    return built(Seq2Seq(encoder, decoder, head, tokenizer, tokenizer))


def rnn():
    keras.utils.set_random_seed(6)
    source, target = text.WordTokenizer.learn(TEXTS, 71), text.CharacterTokenizer.learn(TEXTS, 71)
    encoder = RecurrentEncoder(TokenEmbedding(source.vocabulary_size(), 7), 5, dropout=0.1)
    embedding = TokenEmbedding(target.vocabulary_size(), 7)
    decoder = AttentionDecoder(embedding, 11, LuongAttention("concat"), cell="gru", dropout=0.1)
    head = VocabularyHead(target.vocabulary_size(), 11)
    return built(Seq2Seq(encoder, decoder, head, source, target))


def built(model):
    """Random weights, large enough that every source has an answer of its own."""
    model({"source": tf.constant([[4, 5, 2]]), "target": tf.constant([[1, 5]])})
    for weight in model.weights:
        if weight.shape.rank == 2:
            weight.assign(3 * weight)
    return model


def saved_model(path):
    return saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes())


def python(code, *arguments):
    """Runs code in a fresh process, which cannot import kzoo."""
    command = [sys.executable, "-I", "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
