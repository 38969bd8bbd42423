"""Marian's own model.npz, with its yml and vocabularies -> Seq2Seq.

Junczys-Dowmunt et al. (2018), https://aclanthology.org/P18-4020. Kernels are (inputs, outputs) in
the file, and biases (1, outputs); its configuration is in it, too, as `special:model.yml`. Axis
letters: D features, V vocabulary.
"""

import re
import zipfile
from pathlib import Path

import numpy as np

from kzoo.pretrained import translator
from kzoo.pretrained.weights import Weights
from kzoo.text import PieceTokenizer

_CONFIG = "special:model.yml"
_END, _UNKNOWN = "</s>", "<unk>"
_ACTIVATIONS = {"swish": "silu", "relu": "relu"}  # its gelu is another one, x sigmoid(1.702 x)
# preprocess, postprocess, postprocess-top, which also says whether normalisation comes first.
_ORDERS = {("", "dan", ""): False, ("n", "da", "n"): True}
_REQUIRED = {
    "type": "transformer",
    "transformer-decoder-autoreg": "self-attention",
    "transformer-no-projection": "false",
    "transformer-tied-layers": "[]",
    "transformer-ffn-depth": "2",
    "lemma-dim-emb": "0",
    "transformer-train-position-embeddings": "false",
}
_SIZES = ("dim-emb", "enc-depth", "dec-depth", "transformer-heads")


def from_npz(path):
    """The transformer of a model.npz, with the vocabularies and SentencePiece models beside it.

    Vocabularies are the two .yml files that the configuration names, or that lie in the folder as
    `*.vocab.yml`; SentencePiece models `source.spm` and `target.spm`. kzoo's ids come first: 0
    padding, which is a new row without probability, 1 start, likewise, whose embedding is zeros, as
    Marian's decoder starts from them, 2 end, 3 unknown.

    Positions are those of transformers' MarianMTModel, as if the model had been converted; Marian's
    own have other rates, see `layers.positions.sinusoidal`.

    Args:
        path: str or path.

    Returns:
        Seq2Seq with two PieceTokenizers.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: it is no such file, or another model than a transformer, post-norm ("dan") or
            pre-norm ("n", "da", "n"), of relu or swish.
    """
    path = Path(path)
    weights = _weights(path)
    config = _flat_yaml(weights.take(_CONFIG).tobytes().rstrip(b"\0").decode())
    norm_first = _check(path, config)
    files = [_file(path, config, side) for side in range(2)]
    sides = []
    for name, file in zip(("source", "target"), files, strict=True):
        pieces = read_vocabulary(file)
        missing = [piece for piece in (_END, _UNKNOWN) if piece not in pieces]
        if missing:
            raise ValueError(
                f"{file} must have the piece {missing[0]!r}, got {len(pieces)} others."
            )
        order = translator.kzoo_vocabulary(pieces, *map(pieces.index, (_END, _UNKNOWN)))
        proto = path.with_name(f"{name}.spm").read_bytes()
        sides.append((PieceTokenizer(proto, order[0]), order[1], len(pieces)))
    tables = [
        _table(weights, f"{stack}_Wemb", size)
        for stack, (_, _, size) in zip(("encoder", "decoder"), sides, strict=True)
    ]
    model = _filled(weights, config, sides, tables, norm_first)
    left = [name for name in weights.left() if not name.startswith("special:")]
    if left:
        raise ValueError(f"{path} must hold a transformer as kzoo has them, got also {left[0]!r}.")
    return model


def _weights(path):
    try:
        with path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            arrays = {name: archive[name] for name in archive.files}
    except (ValueError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} must be a whole .npz of Marian, got {error}.") from error
    return Weights(path, {name: lambda name=name: arrays[name] for name in arrays})


def _flat_yaml(text):
    """Marian's configuration: "name: value" a line, or "name:" and lines "  - value".

    All values are str; lists are joined by spaces, an empty one is "[]".
    """
    config, name = {}, None
    for line in text.splitlines():
        if found := re.fullmatch(r"([\w-]+):\s*(.*)", line):
            name, value = found[1], found[2].strip()
            config[name] = value.strip("\"'")
        elif name and (found := re.fullmatch(r"\s*-\s+(.*)|\s*(\[\])", line)):
            config[name] = f"{config[name]} {(found[1] or found[2]).strip()}".strip()
    return config


def _check(path, config):
    """Raises ValueError unless it is a transformer of ours; returns whether it is pre-norm."""
    for name, value in _REQUIRED.items():
        if config.get(name, value) != value:
            raise ValueError(f"{path}: `{name}` must be {value!r}, got {config[name]!r}.")
    missing = [name for name in _SIZES if name not in config]
    if missing:
        raise ValueError(f"{path}: its configuration must have {missing[0]!r}.")
    activation = config.get("transformer-ffn-activation", "swish")
    if activation not in _ACTIVATIONS:
        raise ValueError(
            f"{path}: `transformer-ffn-activation` must be one of {', '.join(_ACTIVATIONS)}, "
            f"got {activation!r}."
        )
    if config.get("transformer-postprocess-emb", "d") not in ("", "d"):
        raise ValueError(
            f"{path}: `transformer-postprocess-emb` must be 'd' or empty, "
            f"got {config['transformer-postprocess-emb']!r}."
        )
    order = tuple(
        config.get(f"transformer-{name}", default)
        for name, default in (("preprocess", ""), ("postprocess", "dan"), ("postprocess-top", ""))
    )
    if order not in _ORDERS:
        raise ValueError(
            f"{path}: `transformer-preprocess`, `-postprocess` and `-postprocess-top` must be one "
            f"of {', '.join(map(str, _ORDERS))}, got {order}."
        )
    return _ORDERS[order]


def _file(path, config, side):
    """The vocabulary of a side, beside the model."""
    names = [Path(name).name for name in config.get("vocabs", "").split()]
    found = [path.with_name(name) for name in names if path.with_name(name).exists()]
    found = found or sorted(path.parent.glob("*.vocab.yml"))
    if not found:
        raise FileNotFoundError(f"{path.parent} must hold the vocabularies, .vocab.yml, got none.")
    return found[min(side, len(found) - 1)]


def read_vocabulary(path):
    """The pieces of a vocabulary in Marian's YAML, in the order of their ids.

    Args:
        path: of lines as `"▁the": 7`, `'it''s': 8` or `Haus: 9`.

    Raises:
        ValueError: a line is another, or the ids are not 0, 1, ...
    """
    ids = {}
    for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip() or line.startswith(("#", "---")):
            continue
        found = re.fullmatch(r"(.+):\s+(\d+)\s*", line)
        if not found:
            raise ValueError(f"{path}:{number}: expected a piece, a colon and its id, got {line!r}")
        ids[int(found[2])] = _unquoted(found[1])
    if sorted(ids) != [*range(len(ids))]:
        raise ValueError(f"{path} must give the pieces the ids from 0 on, got {len(ids)} ids.")
    return [ids[n] for n in range(len(ids))]


def _unquoted(text):
    if text[0] == text[-1] == "'" and len(text) > 1:
        return text[1:-1].replace("''", "'")
    if text[0] == text[-1] == '"' and len(text) > 1:
        return re.sub(r"\\(x[0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4}|.)", _escaped, text[1:-1])
    return text


def _escaped(found):
    code = found[1]
    if len(code) > 1:
        return chr(int(code[1:], 16))
    return {"n": "\n", "t": "\t", "r": "\r", "0": "\0"}.get(code, code)


def _table(weights, name, size):
    """An embedding (V, D), of a stack or of both."""
    return weights.take(name if name in weights else "Wemb", (size, None))


def _filled(weights, config, sides, tables, norm_first):
    (source, source_rows, _), (target, target_rows, size) = sides
    units, heads = int(config["dim-emb"]), int(config["transformer-heads"])
    head = tables[1]
    if "decoder_ff_logit_out_W" in weights:
        head = weights.take("decoder_ff_logit_out_W", (units, size)).T
    elif "decoder_ff_logit_out_Wt" in weights:
        head = weights.take("decoder_ff_logit_out_Wt", (size, units))
    stacks = [
        translator.Stack(depth, heads, weights[f"{name}_l1_ffn_W1"].shape[1])
        for name, depth in (
            ("encoder", int(config["enc-depth"])),
            ("decoder", int(config["dec-depth"])),
        )
    ]
    model = translator.assembled(
        source,
        target,
        units=units,
        encoder=stacks[0],
        decoder=stacks[1],
        is_shared=tables[0].shape == tables[1].shape and np.array_equal(*tables),
        is_tied=np.array_equal(head, tables[1]),
        activation=_ACTIVATIONS[config.get("transformer-ffn-activation", "swish")],
        norm_first=norm_first,
        weights_head=0,  # whose weights guided alignment has taught
    )
    for embedding, table, rows in (
        (model.encoder.embedding, tables[0], source_rows),
        (model.decoder.embedding, tables[1], target_rows),
    ):
        embedding.embeddings.assign(translator.permuted(table, rows, 0.0, 0.0))
    if model.head.tied is None:
        model.head.kernel.assign(translator.permuted(head, target_rows, 0.0, 0.0))
    bias = np.zeros(size, "float32")
    if "decoder_ff_logit_out_b" in weights:
        bias = weights.take("decoder_ff_logit_out_b", (1, size))[0]
    bias = translator.permuted(bias, target_rows, translator.NEVER, translator.NEVER)
    model.head.bias.assign(bias)
    for name, stack in (("encoder", model.encoder), ("decoder", model.decoder)):
        if norm_first:
            translator.set_norm(stack.norm, *_norm(weights, f"{name}_top", units, ""))
        for n, block in enumerate(stack.blocks, 1):
            _fill_block(block, weights, f"{name}_l{n}_", units, "_pre" if norm_first else "")
    return model


def _norm(weights, path, units, when):
    return [weights.take(f"{path}_ln_{part}{when}", (1, units))[0] for part in ("scale", "bias")]


def _fill_block(block, weights, path, units, when):
    """Fills a block; `when` is what stands behind the names of its normalisations."""

    def linear(name, part, inputs=units, outputs=units):
        kernel = weights.take(f"{path}{name}_W{part}", (inputs, outputs))
        return kernel, weights.take(f"{path}{name}_b{part}", (1, outputs))[0]

    names = ("self", "context")
    for name, (attention, frame) in zip(names, translator.attentions(block), strict=False):
        translator.set_attention(attention, *(linear(name, part) for part in "qkvo"))
        translator.set_norm(frame.norm, *_norm(weights, f"{path}{name}_Wo", units, when))
    hidden, feed = block.hidden_units, block.feed_forward
    translator.set_dense(feed.widen, *linear("ffn", "1", units, hidden))
    translator.set_dense(feed.narrow, *linear("ffn", "2", hidden, units))
    translator.set_norm(
        block.feed_forward_frame.norm, *_norm(weights, f"{path}ffn_ffn", units, when)
    )
