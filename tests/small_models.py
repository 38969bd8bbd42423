"""A transformer and an RNN so small that their answers can be enumerated."""

import numpy as np

from kzoo.layers.attention import BahdanauAttention
from kzoo.layers.attention_decoder import AttentionDecoder
from kzoo.layers.embedding import TokenEmbedding
from kzoo.layers.head import VocabularyHead
from kzoo.layers.recurrent_encoder import RecurrentEncoder
from kzoo.layers.transformer import TransformerDecoder, TransformerEncoder
from kzoo.models import Seq2Seq

B, K, T, S, D, U, V = 3, 2, 4, 5, 6, 7, 11
SOURCE = np.array([[3, 4, 5, 6, 2], [7, 8, 2, 0, 0], [9, 10, 3, 2, 0]])
TARGET = np.array([[1, 4, 5, 0], [1, 7, 0, 0], [1, 8, 9, 10]])
LABELS = np.array([[4, 5, 2, 0], [7, 2, 0, 0], [8, 9, 10, 2]])
INPUTS = {"source": SOURCE, "target": TARGET}
TOKENS = [3, 2, 4]  # real labels of each row
TEXTS = ["face", "a cab", "bad", "", "dead decade", "ebb"]


def make_transformer(label_smoothing=0.0, tokenizer=None):
    size = tokenizer.vocabulary_size() if tokenizer else V
    embedding = TokenEmbedding(size, D, scale=True)
    head = VocabularyHead(size, D, embedding, use_bias=False, label_smoothing=label_smoothing)
    encoder = TransformerEncoder(embedding, 1, 2, U)
    decoder = TransformerDecoder(embedding, 1, 2, U)
    return Seq2Seq(encoder, decoder, head, tokenizer, tokenizer)


def make_rnn(label_smoothing=0.0, tokenizer=None):
    size = tokenizer.vocabulary_size() if tokenizer else V
    embedding = TokenEmbedding(size, D)
    encoder = RecurrentEncoder(embedding, U, cell="gru")
    decoder = AttentionDecoder(embedding, D, BahdanauAttention(5), cell="gru")
    head = VocabularyHead(size, D, label_smoothing=label_smoothing)
    return Seq2Seq(encoder, decoder, head, tokenizer, tokenizer)


def built(model, seed=0):
    """The model with weights large enough for sharp, different answers."""
    model(INPUTS)
    rng = np.random.default_rng(seed)
    for variable in model.trainable_variables:
        variable.assign_add(0.7 * rng.normal(size=variable.shape).astype("float32"))
    return model
