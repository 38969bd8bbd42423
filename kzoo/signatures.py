"""What an exported model answers: the functions behind its signatures, traced by `export.save`.

The model's source says what it reads (`text.Tokenizer`, `sources.AudioSource`), so texts and sounds
are served by the same lines.

Axis letters: N contents, K beams, L longest output, S memory steps, T target tokens, C samples of a
chunk.
"""

import functools

import numpy as np
import tensorflow as tf

from kzoo.search import SearchResult

NOT_STATE = ("text", "score", "rate_hz")  # outputs of `stream` and `stream_begin` beside the state


def of_contents(model, beam_size, max_length, length_penalty, longest):
    """The functions of (N,) contents, by name; see `export.save`.

    Returns:
        dict of name -> (function, list of its one TensorSpec).
    """
    tokenizer, reader = model.target_tokenizer, model.source_tokenizer
    spec = tf.TensorSpec([None], tf.string, name=reader.input_name)

    def at_least_one(contents):
        # A batch without rows has one during the search: not every layer can do with 0.
        missing = tf.maximum(1 - tf.shape(contents)[0], 0)
        return tf.concat([contents, tf.fill([missing], reader.neutral)], 0)

    def search(contents, best_only):
        """Contents (N,) -> what was read, SearchResult; at least one row."""
        source, is_empty = reader.read(at_least_one(contents), longest)
        found = model.generate(
            source,
            beam_size=beam_size,
            max_length=max_length,
            length_penalty=length_penalty,
            best_only=best_only,
        )
        return source, _silenced(found, is_empty)

    @functools.partial(tf.function, input_signature=[spec], autograph=False)  # traced once for two
    def best(contents):
        source, found = search(contents, best_only=True)
        names = reader.step_names(source, tf.shape(found.weights)[3], model.encoder_stride)
        rows = tf.shape(contents)[0]
        return names[:rows], SearchResult(*(tensor[:rows] for tensor in found))

    def serving_default(contents):
        _, found = best(contents)
        return {"text": tokenizer.detokenize(found.ids[:, 0]), "score": found.scores[:, 0]}

    def n_best(contents):
        _, found = search(contents, best_only=False)
        rows = tf.shape(contents)[0]
        found = SearchResult(*(tensor[:rows] for tensor in found))
        texts = tokenizer.detokenize(
            tf.reshape(found.ids, [rows * beam_size, tf.shape(found.ids)[2]])
        )
        return {
            "text": tf.reshape(texts, (-1, beam_size)),
            "score": found.scores,
            "log_prob": found.log_probs,
        }

    def align(contents):
        names, found = best(contents)
        ids = found.ids[:, 0]  # (N, L)
        ends = tf.where(ids != 0, tf.range(1, tf.shape(ids)[1] + 1), 0)
        longest = tf.maximum(tf.reduce_max(ends), 0)  # of no rows it is the least int32
        return {
            "text": tokenizer.detokenize(ids),
            "source_tokens": names,
            "target_tokens": tokenizer.tokens(ids[:, :longest]),
            "alignment": found.weights[:, 0, :longest],
        }

    functions = {"serving_default": serving_default, "n_best": n_best, "align": align}
    if reader.is_static:
        functions["serving_xla"] = _compiled(
            model, at_least_one, beam_size, max_length, length_penalty, longest
        )
    return {name: (function, [spec]) for name, function in functions.items()}


def _compiled(model, at_least_one, beam_size, max_length, length_penalty, longest):
    """`serving_default` with a search that XLA compiles."""
    tokenizer, reader = model.target_tokenizer, model.source_tokenizer

    @functools.partial(tf.function, jit_compile=True, autograph=False)
    def compiled(source, length):
        """Source ids (N, S) -> ids (N, K, L), scores; L is the length of a vector, as XLA wants."""
        found = model.generate(
            source,
            beam_size=beam_size,
            max_length=tf.minimum(tf.size(length), max_length),
            length_penalty=length_penalty,
            static_shapes=True,
        )
        return found.ids[:, 0], found.scores[:, 0], tf.reduce_max(found.lengths)

    def serving_xla(contents):
        rows = tf.shape(contents)[0]
        source, is_empty = reader.read(at_least_one(contents), longest)
        source, is_empty = _padded_to_powers_of_two(source), is_empty[:rows]
        # Most outputs are not twice as long as their source. If one is, the search starts again.
        short = tf.zeros([tf.minimum(2 * tf.shape(source)[1], max_length)])
        ids, scores, longest_found = compiled(source, short)
        ids, scores = tf.cond(
            (longest_found < tf.size(short)) | (tf.size(short) >= max_length),
            lambda: (tf.pad(ids, [[0, 0], [0, max_length - tf.shape(ids)[1]]]), scores),
            lambda: compiled(source, tf.zeros([max_length]))[:2],
        )
        ids = tf.where(is_empty[:, None], 0, ids[:rows])
        scores = tf.where(is_empty, 0.0, scores[:rows])
        return {"text": tokenizer.detokenize(ids), "score": scores}

    return serving_xla


def of_streams(model, beam_size, length_penalty):
    """The functions of live audio, by name; none unless the model can `stream`.

    `stream_begin` takes the number of streams, `rows`, and gives the state before them and the
    `rate_hz` of the samples. `stream` takes `audio` float [N, C], the next samples of N streams,
    and every tensor of the state; it gives the `text` so far and its `score` [N], and the state for
    the next chunk under the same names. Nothing is kept between calls.

    Returns:
        dict of name -> (function, list of TensorSpecs).
    """
    if not model.can_stream:
        return {}
    example = model.initial_state(1, beam_size)
    # What grows begins with a size of 0.
    specs = {
        name: tf.TensorSpec(
            [None, *(size or None for size in tensor.shape[1:])], tensor.dtype, name
        )
        for name, tensor in _named(example).items()
    }
    specs["audio"] = tf.TensorSpec([None, None], tf.float32, "audio")

    def stream(inputs):
        leaves = [inputs[name] for name in _named(example)]
        state = tf.nest.pack_sequence_as(example, leaves)
        found, state = model.stream(inputs["audio"], state, length_penalty)
        text = model.target_tokenizer.detokenize(found.ids[:, 0])
        return {"text": text, "score": found.scores[:, 0], **_named(state)}

    def stream_begin(rows):
        state = _named(model.initial_state(rows, beam_size))
        return {"rate_hz": tf.constant(model.source_tokenizer.features.rate_hz), **state}

    rows = tf.TensorSpec([], tf.int32, "rows")
    return {"stream": (stream, [specs]), "stream_begin": (stream_begin, [rows])}


def _named(structure, name=""):
    """The tensors of nested dicts and tuples by their path, "encoder_rnn_0_1", in nest's order."""
    if isinstance(structure, dict):
        items = sorted(structure.items())
    elif isinstance(structure, tuple):
        items = enumerate(structure)
    else:
        return {name: structure}
    named = {}
    for key, value in items:
        named |= _named(value, f"{name}_{key}" if name else str(key))
    return named


def _padded_to_powers_of_two(source):
    """Ids (N, S) -> ids of at least 8 columns, rows and columns powers of two.

    XLA compiles once for each shape. Added rows repeat the first one: of others the search would
    not know when to stop.
    """
    powers = 2 ** tf.range(31)

    def room(count, least):
        return tf.reduce_min(tf.where(powers >= tf.maximum(count, least), powers, powers[-1]))

    rows, steps = tf.shape(source)[0], tf.shape(source)[1]
    source = tf.pad(source, [[0, 0], [0, room(steps, 8) - steps]])
    more = tf.repeat(source[:1], room(rows, 1) - rows, axis=0)
    return tf.concat([source, more], 0)


def _silenced(found, is_empty):
    """Gives the rows of empty sources the empty text as their only hypothesis."""
    first = tf.range(found.ids.shape[1]) == 0
    only = tf.where(first, 0.0, -np.inf)[None, :]  # (1, K)
    return SearchResult(
        ids=tf.where(is_empty[:, None, None], 0, found.ids),
        scores=tf.where(is_empty[:, None], only, found.scores),
        log_probs=tf.where(is_empty[:, None], only, found.log_probs),
        lengths=tf.where(is_empty[:, None], 0, found.lengths),
        weights=tf.where(is_empty[:, None, None, None], 0.0, found.weights),
    )
