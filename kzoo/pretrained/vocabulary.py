"""A trained model with another vocabulary: the rows of words that stay are kept.

V vocabulary.
"""

import numpy as np

from kzoo.layers.candidates import CandidateSampler
from kzoo.layers.embedding import TokenEmbedding
from kzoo.layers.head import VocabularyHead
from kzoo.text import SPECIAL_TOKENS

_TABLES = tuple(each.__name__ for each in (TokenEmbedding, VocabularyHead))


def with_vocabulary(model, source_tokenizer=None, target_tokenizer=None):
    """A copy of a model for other tokenizers, its weights but for the rows of new words.

    The row of a piece that both vocabularies have, and of each special id, is the old one, in
    embeddings and heads; that of a new piece is as in an untrained model. All else is kept.

    Args:
        model: Seq2Seq, its weights built, that embeds its ids with TokenEmbedding.
        source_tokenizer, target_tokenizer: the new ones; None keeps the model's own. The same
            object for both where encoder and decoder share an embedding.

    Returns:
        Seq2Seq, built, not compiled.

    Raises:
        ValueError: encoder and decoder share an embedding and the tokenizers are two, a new
            `source_tokenizer` is for a model that does not embed its source, or the model has words
            in its prompt or suppresses some.

    Example:

    >>> texts = ["two dogs run", "two cats sleep"]
    >>> old, new = (kzoo.WordTokenizer.learn(texts[:n], 20) for n in (1, 2))
    >>> model = kzoo.zoo.transformer_tiny(old, old)
    >>> _ = model({"source": tf.constant([[4, 2]]), "target": tf.constant([[1, 4]])})
    >>> model = kzoo.pretrained.with_vocabulary(model, new, new)
    >>> model.target_tokenizer.vocabulary_size()
    9
    """
    source_tokenizer = source_tokenizer or model.source_tokenizer
    target_tokenizer = target_tokenizer or model.target_tokenizer
    source_table = getattr(model.encoder, "embedding", None)
    is_embedded = isinstance(source_table, TokenEmbedding)
    is_shared = source_table is model.decoder.embedding
    if is_shared and source_tokenizer is not target_tokenizer:
        raise ValueError(
            "`source_tokenizer` and `target_tokenizer` must be one object for a model whose "
            "encoder and decoder share an embedding, got two."
        )
    if source_tokenizer is not model.source_tokenizer and not is_embedded:
        raise ValueError(
            "`source_tokenizer` must be None for a model that does not embed ids of its source, "
            f"got a {type(source_tokenizer).__name__}."
        )
    named = (*model.prompt, *model.suppressed, *model.suppressed_first)
    if max(named, default=0) >= len(SPECIAL_TOKENS):
        raise ValueError(
            "`model` must have no ids of words in its prompt or among those it suppresses, which "
            f"would mean other words then, got {named[:5]}."
        )
    config = model.get_config()
    for name, tokenizer in (("encoder", source_tokenizer), ("decoder", target_tokenizer)):
        if name == "decoder" or is_embedded:
            config[name] = _resized(config[name], tokenizer.vocabulary_size())
    for name in ("head", "ctc_head"):
        config[name] = _resized(config[name], target_tokenizer.vocabulary_size())
    for name in ("source_tokenizer", "target_tokenizer"):
        config[name] = None
    changed = type(model).from_config(config)
    changed.source_tokenizer, changed.target_tokenizer = source_tokenizer, target_tokenizer
    changed.build_from_config(model.get_build_config())

    tables = {id(w): "target" for part in _readers(model) for w in _lasting(part)}
    if is_embedded:
        tables |= {id(source_table.embeddings): "source"}
    kept = {
        "source": _same_pieces(model.source_tokenizer, source_tokenizer) if is_embedded else None,
        "target": _same_pieces(model.target_tokenizer, target_tokenizer),
    }
    for old, new in zip(_lasting(model), _lasting(changed), strict=True):
        if id(old) not in tables:
            new.assign(old)
            continue
        before, after = kept[tables[id(old)]]
        value = np.array(new)
        value[after] = np.array(old)[before]
        new.assign(value)
    return changed


def _readers(model):
    """What has a row for each word of the target."""
    return [each for each in (model.decoder.embedding, model.head, model.ctc_head) if each]


def _lasting(layer):
    """Its weights but what a sampler has seen of the old vocabulary, which begins anew."""
    seen = [
        id(weight)
        for part in layer._flatten_layers()
        if isinstance(part, CandidateSampler)
        for weight in part.weights
    ]
    return [weight for weight in layer.weights if id(weight) not in seen]


def _resized(config, size):
    """A serialized layer whose tables have `size` rows."""
    if not isinstance(config, dict):
        return config
    config = {key: _resized(value, size) for key, value in config.items()}
    if config.get("class_name") in _TABLES:
        inner = config["config"]
        config["config"] = {**inner, "vocabulary_size": size}
        if "num_sampled" in inner:
            config["config"]["num_sampled"] = min(inner["num_sampled"], size)
    return config


def _same_pieces(old, new):
    """The ids of the pieces that two tokenizers share: two lists, of the old and of the new."""
    places = {piece: place for place, piece in enumerate(old.get_vocabulary())}
    after = [
        (places[piece], place)
        for place, piece in enumerate(new.get_vocabulary())
        if piece in places and place >= len(SPECIAL_TOKENS)
    ]
    special = [(place, place) for place in range(len(SPECIAL_TOKENS))]
    return tuple(map(list, zip(*special, *after, strict=True)))
