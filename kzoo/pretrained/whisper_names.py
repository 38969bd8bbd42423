"""Whisper's weights under one set of names, those of OpenAI's files, whoever wrote them.

D features, V vocabulary.
"""

import re
from typing import NamedTuple

import numpy as np

from kzoo.pretrained.weights import Weights

# Hugging Face's name of a part -> OpenAI's; the longer ones first.
_HUGGING_FACE = (
    (r"^model\.", ""),
    (r"\.layers\.", ".blocks."),
    (r"\.self_attn_layer_norm\.", ".attn_ln."),
    (r"\.encoder_attn_layer_norm\.", ".cross_attn_ln."),
    (r"\.final_layer_norm\.", ".mlp_ln."),
    (r"^encoder\.layer_norm\.", "encoder.ln_post."),
    (r"^decoder\.layer_norm\.", "decoder.ln."),
    (r"\.self_attn\.", ".attn."),
    (r"\.encoder_attn\.", ".cross_attn."),
    (r"\.q_proj\.", ".query."),
    (r"\.k_proj\.", ".key."),
    (r"\.v_proj\.", ".value."),
    (r"\.out_proj\.", ".out."),
    (r"\.fc1\.", ".mlp.0."),
    (r"\.fc2\.", ".mlp.2."),
    (r"\.embed_positions\.weight$", ".positional_embedding"),
    (r"\.embed_tokens\.", ".token_embedding."),
    (r"^proj_out\.", "decoder.projection."),
)
_CTRANSLATE2 = (
    (r"/", "."),
    (r"\.layer_(\d+)\.", r".blocks.\1."),
    (r"\.self_attention\.layer_norm\.", ".attn_ln."),
    (r"\.attention\.layer_norm\.", ".cross_attn_ln."),
    (r"\.ffn\.layer_norm\.", ".mlp_ln."),
    (r"\.ffn\.linear_0\.", ".mlp.0."),
    (r"\.ffn\.linear_1\.", ".mlp.2."),
    (r"\.self_attention\.", ".attn."),
    (r"\.attention\.", ".cross_attn."),
    (r"^encoder\.layer_norm\.", "encoder.ln_post."),
    (r"^decoder\.layer_norm\.", "decoder.ln."),
    (r"\.gamma$", ".weight"),
    (r"\.beta$", ".bias"),
    (r"\.position_encodings\.encodings$", ".positional_embedding"),
    (r"\.embeddings\.weight$", ".token_embedding.weight"),
)
_TENSORS = ("weight", "bias", "gamma", "beta", "encodings")
_FUSED = {  # what the linear layers of CTranslate2's attentions hold, one below the other
    "attn.linear_0": ("query", "key", "value"),
    "attn.linear_1": ("out",),
    "cross_attn.linear_0": ("query",),
    "cross_attn.linear_1": ("key", "value"),
    "cross_attn.linear_2": ("out",),
}


class Sizes(NamedTuple):
    """The sizes of a Whisper model."""

    num_mels: int
    units: int  # D
    encoder_layers: int
    encoder_heads: int
    encoder_hidden: int  # of the feed-forward networks
    source_positions: int  # 1500: half as many as frames
    decoder_layers: int
    decoder_heads: int
    decoder_hidden: int
    target_positions: int  # 448
    vocabulary: int  # V, rows of the published table


def sizes_of_hugging_face(config, source):
    """Sizes of a `config.json`.

    Raises:
        ValueError: an entry is missing, or asks for what this is not: another activation.
    """
    names = (
        "num_mel_bins", "d_model", "encoder_layers", "encoder_attention_heads", "encoder_ffn_dim",
        "max_source_positions", "decoder_layers", "decoder_attention_heads", "decoder_ffn_dim",
        "max_target_positions", "vocab_size",
    )  # fmt: skip
    for name in names:
        if not isinstance(config.get(name), int):
            raise ValueError(f"{source} must have an integer {name!r}, got {config.get(name)!r}.")
    if config.get("activation_function", "gelu") != "gelu" or config.get("scale_embedding"):
        raise ValueError(
            f"{source} must have the activation_function 'gelu' and no scale_embedding, got "
            f"{config.get('activation_function')!r}, {config.get('scale_embedding')!r}."
        )
    return Sizes(*(config[name] for name in names))


def sizes_of_openai(dims, source):
    """Sizes of the "dims" of a .pt file.

    Raises:
        ValueError: one is missing, or the encoder has other features than the decoder.
    """
    names = (
        "n_mels", "n_audio_state", "n_audio_layer", "n_audio_head", None, "n_audio_ctx",
        "n_text_layer", "n_text_head", None, "n_text_ctx", "n_vocab",
    )  # fmt: skip
    missing = [name for name in names if name and not isinstance(dims.get(name), int)]
    if missing or dims.get("n_text_state") != dims["n_audio_state"]:
        raise ValueError(f"{source} must have the dims of a Whisper model, got {dims}.")
    hidden = 4 * dims["n_audio_state"]
    return Sizes(*(dims[name] if name else hidden for name in names))


def sizes_of_ctranslate2(weights):
    """Sizes of a model.bin, by its names and shapes."""
    hidden = {}
    layers = {}
    for side in ("encoder", "decoder"):
        layers[side] = len(
            [n for n in weights if re.match(rf"{side}/layer_\d+/ffn/linear_0/weight$", n)]
        )
        hidden[side] = weights[f"{side}/layer_0/ffn/linear_0/weight"].shape[0]
    units, num_mels, _ = weights["encoder/conv1/weight"].shape
    heads = {side: int(weights[f"{side}/num_heads"]) for side in layers}
    positions = {side: weights[f"{side}/position_encodings/encodings"].shape[0] for side in layers}
    return Sizes(
        num_mels, units, layers["encoder"], heads["encoder"], hidden["encoder"],
        positions["encoder"], layers["decoder"], heads["decoder"], hidden["decoder"],
        positions["decoder"], weights["decoder/embeddings/weight"].shape[0],
    )  # fmt: skip


def of_hugging_face(weights, is_tied):
    """Weights of a Hugging Face folder under OpenAI's names, and the head's table; not where it
    `is_tied`, as it is that of the embedding then, whatever the file says."""
    return _renamed(weights, _HUGGING_FACE, {"proj_out.weight"} if is_tied else set())


def of_ctranslate2(weights):
    """Weights of a model.bin under OpenAI's names; settings are left out."""
    names = [name for name in weights if name.endswith(_TENSORS)]  # the others are numbers
    renamed = _renamed(
        Weights(weights.source, {n: _reader(weights, n) for n in names}), _CTRANSLATE2, set()
    )
    readers = {}
    for name in renamed:
        match = re.match(r"(.*\.)((?:cross_)?attn\.linear_\d)(\.weight|\.bias)$", name)
        if match is None:
            readers[name] = _reader(renamed, name)
            continue
        begin, fused, kind = match.groups()
        parts = _FUSED[fused]
        for place, part in enumerate(parts):
            own = f"{begin}{fused.split('.')[0]}.{part}{kind}"
            readers[own] = _reader(renamed, name, place, len(parts))
    return Weights(weights.source, readers)


def of_openai(path, arrays):
    """Weights of the "model_state_dict" of a .pt file."""
    readers = {name: lambda array=array: array for name, array in arrays.items()}
    return Weights(path, readers)


def _renamed(weights, rules, left_out):
    readers = {}
    for name in weights:
        if name in left_out:  # tied
            continue
        new = name
        for pattern, replacement in rules:
            new = re.sub(pattern, replacement, new)
        readers[new] = _reader(weights, name)
    return Weights(weights.source, readers)


def _reader(weights, name, place=0, parts=1):
    return lambda: np.split(weights[name], parts)[place]


def check_tied(weights, table):
    """Raises ValueError if the head has another table (V, D) than the embedding's."""
    if "decoder.projection.weight" not in weights:
        return
    own = weights.take("decoder.projection.weight", table.shape)
    if not np.allclose(own, table, rtol=0, atol=0.02 * np.abs(table).max()):  # both quantized
        raise ValueError(
            f"{weights.source} must have one table for the decoder's embedding and head, got two "
            "that differ."
        )


def check_all_taken(weights):
    """Raises ValueError if there are weights that no part of the model took."""
    left = [name for name in weights.left() if name != "decoder.mask"]
    if left:
        raise ValueError(
            f"{weights.source} must hold a Whisper model alone, got {len(left)} further weights: "
            f"{sorted(left)[:3]}."
        )
