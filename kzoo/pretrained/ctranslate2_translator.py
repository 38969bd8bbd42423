"""Translators of CTranslate2 -> Seq2Seq, the inverse of `export.to_ctranslate2`.

Kernels are (outputs, inputs) in its files. Axis letters: D features, V vocabulary.
"""

import re
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np

from kzoo.export.ctranslate2 import ACTIVATIONS, OWN_FILE
from kzoo.layers.positions import (
    LearnedPositions,
    RotaryPositions,
    SinusoidalPositions,
    sinusoidal,
)
from kzoo.pretrained import ctranslate2_file, hugging_face, translator
from kzoo.text import END_ID, PADDING_ID, START_ID, PieceTokenizer

_NAMES = ("RELU", "GELUTanh", "SWISH", "GELU", "GELUSigmoid", "Tanh", "Sigmoid")  # 0 to 6
_DEFAULTS = {
    **{"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"},
    **{"decoder_start_token": "<s>", "add_source_bos": False, "add_source_eos": False},
}
_EPSILONS = (None, 1e-5, 1e-6)  # kzoo's is 1e-5; which of these it is, no output shows
_PADDINGS = ("<pad>", "<blank>")
_CODES = frozenset(["eng_Latn", "__en__"])
# Numbers that say what is otherwise known, or that nothing here depends on.
_ANY = (
    *("alignment_layer", "alignment_heads", "embeddings_merge", "alibi_use_positive_positions"),
    *("scale_alibi", "multi_query_attention"),
)
_AS_FAR = 2e-2  # a table of sinusoids in bfloat16


def from_ctranslate2(folder):
    """The translator of a folder with model.bin, vocabularies and SentencePiece models.

    A folder that `export.to_ctranslate2` wrote gives the weights that it was written from, in
    float32 bit for bit, and its tokenizers. Others, as conversions of Marian's models (OPUS-MT) and
    of OpenNMT's (Argos Translate), get PieceTokenizers, with kzoo's ids first: 0 padding, 1 start,
    2 end, 3 unknown. Where a model has no word for padding or for the start, or starts from its
    end, from its padding or from zeros, the row is new and its logit so low that it has no
    probability.

    Weights of int8, int16, float16 and bfloat16 become float32. Positions that are sinusoids are
    taken for what they are, others are learned ones. The epsilon of layer normalisations is 1e-5,
    also where it was 1e-6.

    Args:
        folder: str or path; `source.spm` and `target.spm`, or `sentencepiece.model` for both, are
            in it or, as in a package of Argos Translate, beside it.

    Returns:
        Seq2Seq.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: the model has parts that kzoo's transformer lacks, or its files do not fit.
    """
    folder = Path(folder)
    path = folder / "model.bin"
    spec, _, weights = ctranslate2_file.read(path)
    if spec != "TransformerSpec":
        raise ValueError(f"{path} must hold a TransformerSpec, got a {spec}.")
    stacks = [_Reader(weights, name) for name in ("encoder", "decoder")]
    own = folder / OWN_FILE
    source, target, suppressed = _own(own) if own.exists() else _sides(folder)
    tables = [
        weights.take(stacks[0].table, (source.size, None)),
        weights.take("decoder/embeddings/weight", (target.size, None)),
    ]
    units = tables[1].shape[1]
    head = weights.take("decoder/projection/weight", (target.size, units))
    bias = np.zeros(target.size, "float32")
    if has_bias := "decoder/projection/bias" in weights:
        bias = weights.take("decoder/projection/bias", (target.size,))
    bias = target.in_our_order(bias, translator.NEVER)
    encoder, decoder = (stack.options(units) for stack in stacks)
    if encoder.options != decoder.options:
        raise ValueError(f"{path}: encoder and decoder must be of one kind of transformer.")
    is_shared = source.size == target.size and np.array_equal(*tables)
    model = translator.assembled(
        source.tokenizer,
        target.tokenizer,
        units=units,
        encoder=encoder.sizes,
        decoder=decoder.sizes,
        is_shared=is_shared,
        is_tied=np.array_equal(tables[1], head),
        positions=(encoder.positions, decoder.positions),
        attention_positions=(encoder.inside, decoder.inside),
        use_bias=has_bias or bool((bias != 0).any()),
        weights_head=stacks[1].weights_head(),
        suppressed=suppressed,
        **encoder.options,
    )
    _fill_tables(model, tables, head, bias, source, target, stacks[1])
    for stack, reader in zip((model.encoder, model.decoder), stacks, strict=True):
        reader.fill(stack, units)
    _check_left(weights)
    return model


class _Side(NamedTuple):
    """The vocabulary of one side, and where its rows are in the file."""

    tokenizer: Any
    size: int  # V there
    rows: Any = None  # (V,) there of each of kzoo's ids, -1 for new ones; None for the same order
    first_id: int = END_ID  # whose embedding a decoder starts from that has no piece for the start

    def in_our_order(self, table, new=0.0):
        """Rows in kzoo's order; the new ones are `new`."""
        if self.rows is None:
            return table
        found = table[np.maximum(self.rows, 0)]
        found[self.rows < 0] = new
        return found


def _own(path):
    """The sides of a model that kzoo wrote."""
    content = hugging_face.read_json(path)
    try:
        tokenizers = [
            keras.saving.deserialize_keras_object(content[f"{side}_tokenizer"])
            for side in ("source", "target")
        ]
        suppressed = tuple(content["suppressed"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} must be what kzoo.export.to_ctranslate2 writes: {error}"
        ) from error
    return *(_Side(each, each.vocabulary_size()) for each in tokenizers), suppressed


def _sides(folder):
    config = dict(_DEFAULTS)
    if (path := folder / "config.json").exists():
        config |= hugging_face.read_json(path)
    if config["add_source_bos"]:
        raise ValueError(f"{path}: `add_source_bos` must be false, got true.")
    if config.get("layer_norm_epsilon") not in _EPSILONS:
        raise ValueError(
            f"{path}: `layer_norm_epsilon` must be one of {_EPSILONS}, "
            f"got {config['layer_norm_epsilon']}."
        )
    sides = []
    for name in ("source", "target"):
        pieces = _pieces(folder, name)
        if codes := _CODES.intersection(pieces):
            raise ValueError(
                f"{folder} must hold a model whose texts begin with no code of a language that its "
                f"client writes, as those of NLLB and M2M-100 do, got {codes.pop()!r} among its "
                f"pieces."
            )
        end, unknown = (_place(folder, name, pieces, config[f"{e}_token"]) for e in ("eos", "unk"))
        padding = next((pieces.index(each) for each in _PADDINGS if each in pieces), None)
        start = config["decoder_start_token"]
        start = pieces.index(start) if start in pieces else None
        first_id = PADDING_ID if start is not None and start == padding else END_ID
        if start in (end, unknown, padding):
            start = None
        others = [each for each in (padding, start) if each is not None]
        vocabulary, rows = translator.kzoo_vocabulary(pieces, end, unknown, *others)
        rows[[PADDING_ID, START_ID]] = [-1 if n is None else n for n in (padding, start)]
        # Models with an end behind the source are Marian's, and theirs may begin with a language.
        tokenizer = PieceTokenizer(
            _proto(folder, name), vocabulary, has_languages=config["add_source_eos"],
            adds_end=config["add_source_eos"],
        )  # fmt: skip
        sides.append(_Side(tokenizer, len(pieces), rows, first_id))
    return *sides, (PADDING_ID, START_ID)


def _pieces(folder, side):
    for stem in (f"{side}_vocabulary", "shared_vocabulary"):
        if (path := folder / f"{stem}.json").exists():
            return hugging_face.read_json(path)
        if (path := folder / f"{stem}.txt").exists():
            return path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    raise FileNotFoundError(
        f"{folder} must hold {side}_vocabulary or shared_vocabulary, .json or .txt, got neither."
    )


def _place(folder, side, pieces, piece):
    if piece not in pieces:
        raise ValueError(f"{folder}: the {side} vocabulary must hold {piece!r}, got none.")
    return pieces.index(piece)


def _proto(folder, side):
    names = (f"{side}.spm", "sentencepiece.model", "spm.model")
    for path in (place / name for place in (folder, folder.parent) for name in names):
        if path.exists():
            return path.read_bytes()
    raise FileNotFoundError(
        f"{folder} must hold {names[0]} or {names[1]}, or its parent must, got neither."
    )


def _fill_tables(model, tables, head, bias, source, target, decoder):
    model.encoder.embedding.embeddings.assign(source.in_our_order(tables[0]))
    table = target.in_our_order(tables[1])
    is_new = target.rows is not None and target.rows[START_ID] < 0
    if is_new and not decoder.number("start_from_zero_embedding"):
        table[START_ID] = table[target.first_id]
    model.decoder.embedding.embeddings.assign(table)
    if model.head.tied is None:
        model.head.kernel.assign(target.in_our_order(head))
    if model.head.use_bias:
        model.head.bias.assign(bias)


class _Options(NamedTuple):
    sizes: translator.Stack
    options: dict
    positions: Any
    inside: Any


class _Reader:
    """One stack in the file: its numbers, its layers."""

    def __init__(self, weights, name):
        self._weights, self._name = weights, name
        self._layers = len(
            {m[1] for m in (re.match(rf"{name}/layer_(\d+)/", each) for each in weights) if m}
        )
        single = f"{name}/embeddings/weight"
        self.table = single if single in weights else f"{name}/embeddings_0/weight"

    def number(self, name, default=0):
        """A scalar: of this stack, or as old files have it, of both."""
        name = next((n for n in (f"{self._name}/{name}", name) if n in self._weights), None)
        return default if name is None else self._weights.take(name, ()).item()

    def options(self, units):
        """Sizes, what the stacks have in common, and positions."""
        activation = _NAMES[self.number("activation")]
        known = {theirs: ours for ours, theirs in ACTIVATIONS.items()}
        if activation not in known:
            raise ValueError(
                f"{self._weights.source}: the activation must be one of {', '.join(known)}, "
                f"got {activation}."
            )
        scale = self.number("scale_embeddings", 1)
        if scale not in (0, 1) and not np.isclose(scale, units**0.5):
            raise ValueError(
                f"{self._weights.source}: embeddings must be scaled by sqrt({units}) or not at "
                f"all, got {scale}."
            )
        hidden = self._weights.take(f"{self._name}/layer_0/ffn/linear_0/weight").shape[0]
        options = {
            "activation": known[activation], "scale": bool(scale),
            "norm_first": bool(self.number("pre_norm", 1)),
        }  # fmt: skip
        sizes = translator.Stack(self._layers, self.number("num_heads", 8), hidden)
        inside = self._rotary()
        return _Options(sizes, options, None if inside else self._positions(units), inside)

    def weights_head(self):
        """The one head whose attention is the alignment, or None for the mean of all."""
        is_last = self.number("alignment_layer", -1) in (-1, self._layers - 1)
        return 0 if is_last and self.number("alignment_heads", 1) == 1 else None

    def _rotary(self):
        path = f"{self._name}/layer_0/self_attention/rotary"
        if f"{path}_dim" not in self._weights:
            return None
        for n in range(self._layers):
            inside = f"layer_{n}/self_attention/rotary"
            if self.number(f"{inside}_dim") != 0 or not self.number(f"{inside}_interleave", 1):
                raise ValueError(
                    f"{self._weights.source}: rotary positions must turn all features in pairs."
                )
            base = self.number(f"{inside}_base", 10000.0)
        return RotaryPositions(base=base)

    def _positions(self, units):
        name = f"{self._name}/position_encodings/encodings"
        if name in self._weights:
            table = self._weights.take(name, (None, units))
        else:
            table = _opennmt_tf(units)
        for interleaved in (True, False):
            expected = sinusoidal(np.arange(len(table)), units, interleaved).numpy()
            if np.abs(expected - table).max() < _AS_FAR:
                return SinusoidalPositions(interleaved=interleaved)
        same = (table == table[-1]).all(1)
        rows = len(table) - int(np.argmin(same[::-1])) + 1  # the last row once
        positions = LearnedPositions(min(rows, len(table)))
        positions.build((None, None, units))
        positions.table.assign(table[: positions.max_length])
        return positions

    def fill(self, stack, units):
        """Fills the blocks of a stack, and its last normalisation."""
        if stack.norm_first:
            translator.set_norm(stack.norm, *self._norm("layer_norm", units))
        for n, block in enumerate(stack.blocks):
            layer = f"layer_{n}"
            names = ("self_attention", "attention")
            for name, (attention, frame) in zip(names, translator.attentions(block), strict=False):
                self._fill_attention(f"{layer}/{name}", attention, name != "attention", units)
                translator.set_norm(frame.norm, *self._norm(f"{layer}/{name}/layer_norm", units))
            hidden, feed = block.hidden_units, block.feed_forward
            translator.set_dense(feed.widen, *self._linear(f"{layer}/ffn/linear_0", hidden, units))
            translator.set_dense(feed.narrow, *self._linear(f"{layer}/ffn/linear_1", units, hidden))
            norm = self._norm(f"{layer}/ffn/layer_norm", units)
            translator.set_norm(block.feed_forward_frame.norm, *norm)

    def _fill_attention(self, path, attention, is_self, units):
        if is_self:
            kernel, bias = self._linear(f"{path}/linear_0", 3 * units, units)
        else:
            pairs = [
                self._linear(f"{path}/linear_{n}", size, units)
                for n, size in enumerate((units, 2 * units))
            ]
            kernel, bias = (np.concatenate(each, -1) for each in zip(*pairs, strict=True))
        parts = list(zip(np.split(kernel, 3, 1), np.split(bias, 3), strict=True))
        output = self._linear(f"{path}/linear_{1 if is_self else 2}", units, units)
        translator.set_attention(attention, *parts, output)

    def _linear(self, path, outputs, inputs):
        path = f"{self._name}/{path}"
        kernel = self._weights.take(f"{path}/weight", (outputs, inputs)).T
        if f"{path}/bias" not in self._weights:
            return kernel, np.zeros(outputs, "float32")
        return kernel, self._weights.take(f"{path}/bias", (outputs,))

    def _norm(self, path, units):
        path = f"{self._name}/{path}"
        return [self._weights.take(f"{path}/{part}", (units,)) for part in ("gamma", "beta")]


def _opennmt_tf(units, count=1024):
    """The positions of a file without any: those of OpenNMT-tf, which begin with 1."""
    rates = np.exp(-np.log(10000) / (units // 2 - 1) * np.arange(units // 2))
    angles = np.arange(1, count + 1)[:, None] * rates
    return np.concatenate([np.sin(angles), np.cos(angles)], 1).astype("float32")


def _check_left(weights):
    for name in weights.left():
        is_number = weights[name].ndim == 0
        if not is_number or (name.split("/")[-1] not in _ANY and weights[name].any()):
            raise ValueError(
                f"{weights.source} must be a transformer as kzoo has them, got {name!r}."
            )
