"""Transformers whose weights come from elsewhere: the model is built, then filled part by part.

Kernels are (inputs, outputs) here, as in Keras. Axis letters: D features, V vocabulary.
"""

from typing import NamedTuple

import numpy as np

from kzoo.layers.embedding import TokenEmbedding
from kzoo.layers.head import VocabularyHead
from kzoo.layers.positions import SinusoidalPositions
from kzoo.layers.transformer import TransformerDecoder, TransformerEncoder
from kzoo.models import Seq2Seq
from kzoo.text import PADDING_ID, SPECIAL_TOKENS, START_ID

# The logit of a start that no output may hold: its probability is 0 in every precision, and label
# smoothing, which asks for a little of every word, still gives a sensible loss.
NEVER = -1e3


class Stack(NamedTuple):
    """The sizes of an encoder or a decoder."""

    num_layers: int
    num_heads: int
    hidden_units: int


def assembled(
    source_tokenizer,
    target_tokenizer,
    *,
    units,
    encoder,
    decoder,
    is_shared,
    is_tied,
    activation="relu",
    norm_first=False,
    scale=True,
    positions=None,
    attention_positions=None,
    dropout=0.1,
    use_bias=True,
    weights_head=None,
    suppressed=(PADDING_ID, START_ID),
):
    """A Seq2Seq of transformers, built, its weights still to be filled.

    Args:
        source_tokenizer, target_tokenizer: of `text`.
        units: int, D.
        encoder, decoder: Stack.
        is_shared: bool, whether source and target have one table of embeddings.
        is_tied: bool, whether target embedding and head have one table.
        activation: str, as Keras calls it.
        norm_first: bool.
        scale: bool, whether embeddings are multiplied by sqrt(D).
        positions: pair of the positions of encoder and decoder; None for sinusoids in halves.
        attention_positions: the same of those inside attention, or None for none.
        dropout: float in [0, 1).
        use_bias: bool, whether the head has a bias.
        weights_head, suppressed: as in TransformerDecoder and Seq2Seq.

    Returns:
        Seq2Seq.
    """
    if positions is None and attention_positions is None:
        positions = [SinusoidalPositions(interleaved=False) for _ in range(2)]
    outside, inside = positions or (None, None), attention_positions or (None, None)
    source = TokenEmbedding(source_tokenizer.vocabulary_size(), units, scale=scale)
    target = source
    if not is_shared:
        target = TokenEmbedding(target_tokenizer.vocabulary_size(), units, scale=scale)
    options = {"dropout": dropout, "norm_first": norm_first, "activation": activation}
    head = VocabularyHead(target.vocabulary_size, units, target if is_tied else None, use_bias)
    model = Seq2Seq(
        TransformerEncoder(
            source, *encoder, positions=outside[0], attention_positions=inside[0], **options
        ),
        TransformerDecoder(
            target, *decoder, positions=outside[1], attention_positions=inside[1],
            weights_head=weights_head, **options,
        ),
        head,
        source_tokenizer,
        target_tokenizer,
        suppressed=suppressed,
    )  # fmt: skip
    model.build({"source": (None, None), "target": (None, None)})
    return model


def kzoo_vocabulary(pieces, end, unknown, *others):
    """Pieces in kzoo's order: the four special ones, then all others as they stand.

    Args:
        pieces: list of str in the order of another project's ids.
        end, unknown: int, the ids there of the end and of what is unknown.
        *others: int or None, ids of further pieces that are none in a text: padding, start.

    Returns:
        list of str; a piece that is called as one of the four, but is none, as `<s>` in later
        models of OPUS-MT, keeps its place and is called `<<s>>`. rows: (V,) int array, the other
        project's id of each of kzoo's; -1 for padding and start, whose rows are made from others.
    """
    special = {end, unknown, *others}
    rows = [-1, -1, end, unknown, *(n for n in range(len(pieces)) if n not in special)]
    names = [pieces[n] for n in rows[len(SPECIAL_TOKENS) :]]
    names = [f"<{name}>" if name in SPECIAL_TOKENS else name for name in names]
    return [*SPECIAL_TOKENS, *names], np.array(rows)


def permuted(table, rows, padding, start):
    """The rows of another project's table, (V', ...), in kzoo's order, (V, ...).

    Args:
        table: array.
        rows: from `kzoo_vocabulary`.
        padding, start: what the rows of kzoo's padding and start are.
    """
    found = table[np.maximum(rows, 0)]
    found[PADDING_ID], found[START_ID] = padding, start
    return found


def attentions(block):
    """The attentions of a block, each with its frame: of an encoder one, of a decoder two, that to
    itself and that to the memory."""
    if hasattr(block, "cross_attention"):
        return (
            (block.self_attention, block.self_frame),
            (block.cross_attention, block.cross_frame),
        )
    return ((block.attention, block.attention_frame),)


def set_attention(attention, query, key, value, output):
    """Fills a MultiHeadAttention; each is a pair of kernel and bias."""
    (query_kernel, query_bias), (output_kernel, output_bias) = query, output
    attention.query_kernel.assign(query_kernel)
    attention.query_bias.assign(query_bias)
    attention.key_value_kernel.assign(np.concatenate([key[0], value[0]], 1))
    attention.key_value_bias.assign(np.concatenate([key[1], value[1]]))
    attention.output_kernel.assign(output_kernel)
    attention.output_bias.assign(output_bias)


def set_dense(dense, kernel, bias):
    """Fills a Dense layer, or a convolution."""
    dense.kernel.assign(kernel)
    dense.bias.assign(bias)


def set_norm(norm, gamma, beta):
    """Fills a LayerNormalization."""
    norm.gamma.assign(gamma)
    norm.beta.assign(beta)
