"""MarianMT: a folder of Hugging Face's transformers -> Seq2Seq.

Junczys-Dowmunt et al. (2018), https://aclanthology.org/P18-4020; the models are those of Tiedemann
& Thottingal (2020), https://aclanthology.org/2020.eamt-1.61.

Axis letters: D features, V vocabulary.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from kzoo.pretrained import hugging_face, translator
from kzoo.text import PieceTokenizer

ACTIVATIONS = {"swish": "silu", "silu": "silu", "relu": "relu", "gelu": "gelu"}
_NEEDED = (
    *("vocab_size", "d_model", "activation_function", "eos_token_id"),
    *("encoder_layers", "encoder_attention_heads", "encoder_ffn_dim"),
    *("decoder_layers", "decoder_attention_heads", "decoder_ffn_dim"),
)
# What a file may hold besides: sinusoids, and other names of tables that are shared.
_COPIES = ("embed_positions.weight", "embed_tokens.weight", "lm_head.weight", "shared.weight")
_END, _UNKNOWN, _PADDING = "</s>", "<unk>", "<pad>"


def from_hugging_face(folder):
    """The model of a folder with config.json, weights, source.spm, target.spm and vocab.json.

    It is post-norm, its positions are sinusoids in halves. Ids are in kzoo's order: 0 padding, 1
    start, 2 end, 3 unknown, then the others in Marian's order. Marian starts from its padding, so
    the row of kzoo's start is a copy of that of the padding, and its logit has a bias that leaves
    it no probability. The padding keeps its logit, and with it its share of the softmax, but no
    search gives it, as transformers' `bad_words_ids` have it.

    Args:
        folder: str or path.

    Returns:
        Seq2Seq with two PieceTokenizers, its weights float32.

    Raises:
        FileNotFoundError: a file is missing.
        ImportError: a package that reads the weights is missing.
        ValueError: the model is none of this kind, or its files do not fit each other.
    """
    folder = Path(folder)
    config = hugging_face.read_json(folder / "config.json")
    _check(folder / "config.json", config)
    source, target = _vocabularies(folder, config)
    weights = hugging_face.read_weights(folder)
    is_tied = config.get("tie_word_embeddings", True)
    tables = _tables(weights, config, source, target, is_tied)
    model = translator.assembled(
        source.tokenizer,
        target.tokenizer,
        units=config["d_model"],
        encoder=_stack(config, "encoder"),
        decoder=_stack(config, "decoder"),
        is_shared=tables[0] is tables[1],
        is_tied=is_tied,
        activation=ACTIVATIONS[config["activation_function"]],
        scale=config.get("scale_embedding", False),
        dropout=config.get("dropout", 0.1),
    )
    _fill_tables(model, weights, tables, source, target)
    for stack in ("encoder", "decoder"):
        for n, block in enumerate(getattr(model, stack).blocks):
            _fill_block(block, weights, f"model.{stack}.layers.{n}.", config["d_model"])
    left = [name for name in weights.left() if not name.endswith(_COPIES)]
    if left:
        raise ValueError(
            f"{weights.source} must hold a MarianMT model alone, got also {left[0]!r}."
        )
    return model


def _check(path, config):
    """Raises ValueError unless it is a MarianMT model as transformers knows it."""
    kind = config.get("model_type")
    if kind != "marian":
        raise ValueError(f"{path}: `model_type` must be 'marian', got {kind!r}.")
    missing = [name for name in _NEEDED if name not in config]
    if missing:
        raise ValueError(f"{path} must have {missing[0]!r}, got {len(config)} other entries.")
    activation = config["activation_function"]
    if activation not in ACTIVATIONS:
        raise ValueError(
            f"{path}: `activation_function` must be one of {', '.join(ACTIVATIONS)}, "
            f"got {activation!r}."
        )
    for name in ("normalize_before", "normalize_embedding", "add_final_layer_norm"):
        if config.get(name):
            raise ValueError(
                f"{path}: `{name}` must be false, as transformers' MarianMT ignores it, "
                f"got {config[name]!r}."
            )


class _Side(NamedTuple):
    """The vocabulary of one side: kzoo's tokenizer, Marian's id of each of its ids, and others."""

    tokenizer: PieceTokenizer
    rows: np.ndarray  # (V,)
    size: int  # V', of Marian
    padding: int
    start: int


def _vocabularies(folder, config):
    own = folder / "target_vocab.json"
    names = ("vocab.json", own.name if own.exists() else "vocab.json")
    sizes = config["vocab_size"], config.get("decoder_vocab_size") or config["vocab_size"]
    sides = []
    for name, size, proto in zip(names, sizes, ("source.spm", "target.spm"), strict=True):
        pieces = _pieces(folder / name, size)
        end, unknown, padding = (pieces.index(piece) for piece in (_END, _UNKNOWN, _PADDING))
        start = config.get("decoder_start_token_id", padding) if sides else padding
        if not 0 <= start < size or start in (end, unknown):
            raise ValueError(
                f"{folder / 'config.json'}: `decoder_start_token_id` must be the id of a piece "
                f"that stands in no text, got {start}."
            )
        vocabulary, rows = translator.kzoo_vocabulary(pieces, end, unknown, padding, start)
        tokenizer = PieceTokenizer((folder / proto).read_bytes(), vocabulary)
        sides.append(_Side(tokenizer, rows, size, padding, start))
    if pieces[config["eos_token_id"]] != _END:
        raise ValueError(
            f"{folder / 'config.json'}: `eos_token_id` must be the id of {_END!r} in {names[1]}, "
            f"got {config['eos_token_id']}."
        )
    return sides


def _pieces(path, size):
    """The pieces of a vocab.json in the order of their ids."""
    ids = hugging_face.read_json(path)
    if not isinstance(ids, dict) or {*ids.values()} != {*range(len(ids))}:
        raise ValueError(f"{path} must give each piece an id from 0 on, none of them twice.")
    if len(ids) != size:
        raise ValueError(
            f"{path} must have as many pieces as config.json says, {size}, got {len(ids)}."
        )
    missing = [piece for piece in (_END, _UNKNOWN, _PADDING) if piece not in ids]
    if missing:
        raise ValueError(f"{path} must have the piece {missing[0]!r}, got {size} others.")
    return sorted(ids, key=ids.get)


def _stack(config, name):
    sizes = ("layers", "attention_heads", "ffn_dim")
    return translator.Stack(*(config[f"{name}_{size}"] for size in sizes))


def _tables(weights, config, source, target, is_tied):
    """The embeddings of source and target in Marian's order; one object if they are the same.

    What a file leaves out is a copy of what it holds. Where it holds two that differ, they are two,
    whatever the configuration says, as transformers has it.
    """
    encoder, decoder = (f"model.{name}.embed_tokens.weight" for name in ("encoder", "decoder"))
    shared, head = "model.shared.weight", ("lm_head.weight",) * is_tied
    can_share = config.get("share_encoder_decoder_embeddings", True)
    names = [(encoder, shared, decoder, *head), (decoder, shared, *head)]
    if not can_share:
        names = [(encoder,), (decoder, *head)]

    def first(names, side):
        name = next((name for name in names if name in weights), names[0])
        return weights.take(name, (side.size, config["d_model"]))

    tables = first(names[0], source), first(names[1], target)
    if can_share and source.size == target.size and np.array_equal(*tables):
        return tables[0], tables[0]
    return tables


def _fill_tables(model, weights, tables, source, target):
    def permuted(table, side):
        return translator.permuted(table, side.rows, table[side.padding], table[side.start])

    model.encoder.embedding.embeddings.assign(permuted(tables[0], source))
    if tables[0] is not tables[1]:
        model.decoder.embedding.embeddings.assign(permuted(tables[1], target))
    if model.head.tied is None:
        head = weights.take("lm_head.weight", (target.size, model.head.units))
        model.head.kernel.assign(permuted(head, target))
    bias = np.zeros(target.size, "float32")
    if "final_logits_bias" in weights:
        bias = weights.take("final_logits_bias", (1, target.size))[0]
    # Where Marian starts from its padding, kzoo's start is a word that Marian does not have.
    is_new = target.start == target.padding
    start = translator.NEVER if is_new else bias[target.start]
    model.head.bias.assign(translator.permuted(bias, target.rows, bias[target.padding], start))


def _fill_block(block, weights, path, units):
    """Fills a block of the encoder or the decoder; kernels are (outputs, inputs) in the file."""

    def linear(name, inputs=units, outputs=units):
        kernel = weights.take(f"{path}{name}.weight", (outputs, inputs))
        return kernel.T, weights.take(f"{path}{name}.bias", (outputs,))

    def norm(name):
        return [weights.take(f"{path}{name}.{part}", (units,)) for part in ("weight", "bias")]

    names = ("self_attn", "encoder_attn")
    for name, (attention, frame) in zip(names, translator.attentions(block), strict=False):
        parts = [linear(f"{name}.{part}_proj") for part in ("q", "k", "v", "out")]
        translator.set_attention(attention, *parts)
        translator.set_norm(frame.norm, *norm(f"{name}_layer_norm"))
    hidden = block.hidden_units
    translator.set_dense(block.feed_forward.widen, *linear("fc1", units, hidden))
    translator.set_dense(block.feed_forward.narrow, *linear("fc2", hidden, units))
    translator.set_norm(block.feed_forward_frame.norm, *norm("final_layer_norm"))
