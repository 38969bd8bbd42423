"""What an exported model answers: the functions behind its signatures, traced by `export.save`.

The model's source says what it reads (`text.Tokenizer`, `audio.AudioSource`,
`image.ImageSource`), so texts, sounds and pictures are served by the same lines.

Axis letters: N contents, K beams, L longest output, S memory steps, T target tokens, C samples of a
chunk.
"""

import functools
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from kzoo.contents import LANGUAGE, TEXT
from kzoo.export import requests
from kzoo.export.recordings import of_recordings
from kzoo.models.texts import looked_at
from kzoo.models.windows import heard, is_silent, mean_log_probs, signs_of
from kzoo.search import SearchResult
from kzoo.text import in_language
from kzoo.text.truncation import beginnings


class Options(NamedTuple):
    """How an exported model answers; `export.save` explains each."""

    signatures: tuple  # of names among `all_names`
    beam_size: int
    max_length: int | None  # None of a CTCModel without a limit
    length_penalty: float
    max_source_length: float
    search_options: dict
    request_batching: dict | None
    replace_unknown: bool
    lexicon: Any  # models.Lexicon or None
    precision: str
    doubts: Any  # models.Doubts; None for a model without windows of speech


def all_names(model, lexicon=None):
    """The names of the signatures that an export of a model can have; see `export.save`.

    Args:
        model: Generator with both tokenizers.
        lexicon: models.Lexicon or None.

    Returns:
        tuple of str. "stream" stands for "stream_begin" too: one is of no use without the other.
    """
    has = {
        "serving_xla": model.source_tokenizer.is_static,
        "complete": model.takes_prefix and lexicon is None,
        "segments": signs_of(model) is not None,
        "stream": model.can_stream,
    }
    first = ("serving_default", "n_best", "serving_xla", "align")
    names = (*first, "segments", "complete", "stream")
    return tuple(name for name in names if has.get(name, True))


class Search:
    """The search behind most signatures: contents in, what was read and found out.

    Args:
        model: Generator with both tokenizers.
        options: Options.
        with_weights: decorator of all that becomes a graph of its own, `StoredWeights.read_in`;
            None for the weights of the model as they are.
    """

    def __init__(self, model, options, with_weights=None):
        self.model, self.options = model, options
        self.with_weights = with_weights or (lambda function: function)
        self.signs = signs_of(model)
        if self.signs is not None:
            self.prompt = tuple(options.search_options.get("prompt", model.prompt))
        self.read = self.graph(self._read, input_signature=[tf.TensorSpec([None], tf.string)])

    def graph(self, function, **options):
        """`function` as a graph of its own, traced once for all that call it."""
        return tf.function(self.with_weights(function), autograph=False, **options)

    def _read(self, contents):
        """Contents (N,) -> what `generate` takes, is_empty; at least one row. Traced once for all.

        Not every layer can do with a batch without rows: it has one during the search.
        """
        reader = self.model.source_tokenizer
        missing = tf.maximum(1 - tf.shape(contents)[0], 0)
        contents = tf.concat([contents, tf.fill([missing], reader.content.neutral)], 0)
        return self.model.read_source(contents, self.options.max_source_length)

    def __call__(self, contents, best_only, **more):
        """Contents (N,) -> what was read, SearchResult; at least one row."""
        inputs, is_empty = self.read(contents)
        return inputs["source"], self.found(inputs, is_empty, best_only, **more)

    def of_samples(self, samples, lengths):
        """Sound (N, L) that is decoded already -> as `read`; N is at least 1."""
        source = self.model.source_tokenizer(samples, lengths)
        return {"source": source}, source.row_lengths() == 0

    def found(self, inputs, is_empty, best_only, **more):
        """SearchResult of what was read: the empty text for what is empty, or no speech."""
        longest = self.options.max_length
        if self.signs is not None:
            more["start"], no_speech = heard(
                self.model, inputs["source"], self.prompt, self.signs, longest
            )
            more["renormalize"] = "prefix" not in more
        found = _generate(self.model, self.options, inputs, longest, best_only=best_only, **more)
        if self.signs is not None and "prefix" not in more:
            means = mean_log_probs(found, longest)
            is_empty |= is_silent(means, no_speech, self.options.doubts)
        return _silenced(found, is_empty)

    def texts(self, contents, source, found, beams=1):
        """The texts (N, beams) of the best beams of `found` for N contents."""
        steps = None
        if self.options.replace_unknown:
            steps = looked_at(found.weights[:, :beams], source[: tf.shape(contents)[0]])
        return self.model.target_texts(found.ids[:, :beams], contents, steps)


def of_contents(search):
    """The functions of (N,) contents, by name; see `export.save`.

    Args:
        search: Search.

    Returns:
        dict of name -> (function, list of its TensorSpecs).
    """
    model, options = search.model, search.options
    spec = tf.TensorSpec([None], tf.string, name=model.source_tokenizer.content.input_name)

    @functools.partial(search.graph, input_signature=[spec])  # traced once for two
    def best(contents):
        source, found = search(contents, best_only=True)
        source = source[: tf.shape(contents)[0]]
        names = model.source_tokens(source, tf.shape(found.weights)[3], contents)
        found = _first_rows(found, contents)
        return names, search.texts(contents, source, found)[:, 0], found

    def serving_default(contents):
        _, texts, found = best(contents)
        return {"text": texts, "score": _finite(found.scores[:, 0])}

    segments = None
    if search.signs is not None:
        serving_default, segments = of_recordings(search)

    def n_best(contents):
        source, found = search(contents, best_only=False)
        found = _first_rows(found, contents)
        return {
            "text": search.texts(contents, source, found, options.beam_size),
            "score": _finite(found.scores),
            "log_prob": _finite(found.log_probs),
        }

    def align(contents):
        names, texts, found = best(contents)
        ids = found.ids[:, 0]  # (N, L)
        longest = _longest(ids)
        return {
            "text": texts,
            "source_tokens": names,
            "target_tokens": model.target_tokens(ids[:, :longest], contents),
            "alignment": found.weights[:, 0, :longest],
        }

    functions = {"serving_default": serving_default, "n_best": n_best}
    functions["serving_xla"] = _compiled(search)
    functions = {name: search.with_weights(function) for name, function in functions.items()}
    if options.request_batching is not None:
        functions = {
            name: requests.batch_requests(function, **options.request_batching)
            for name, function in functions.items()
        }
    functions |= {"align": align, "segments": segments and search.with_weights(segments)}
    functions = {name: (function, [spec]) for name, function in functions.items()}
    prefix = tf.TensorSpec([None], tf.string, name="prefix")
    functions["complete"] = search.with_weights(_complete(search)), [spec, prefix]
    if model.source_tokenizer.content is TEXT:
        longest = options.max_source_length
        functions = {
            name: (_of_beginnings(f, longest), specs) for name, (f, specs) in functions.items()
        }
    if languages := model.source_tokenizer.languages:
        functions = {
            name: (_in_language(function, languages), [*specs, _LANGUAGE_SPEC])
            for name, (function, specs) in functions.items()
        }
    return {name: found for name, found in functions.items() if name in options.signatures}


_LANGUAGE_SPEC = tf.TensorSpec(None, tf.string, LANGUAGE)


def _in_language(function, languages):
    """`function` of texts that begin with the tag of a language; the last input is `language`."""

    def answer(texts, *others):
        *others, language = others
        return function(in_language(texts, language, languages), *others)

    return answer


def _of_beginnings(function, longest):
    """`function` of what is read of texts: what stands behind it costs nothing."""

    def answer(texts, *others):
        return function(beginnings(texts, longest), *others)

    return answer


def _complete(search):
    """The function that continues a prefix of each output."""
    model, reader = search.model, search.model.source_tokenizer

    def complete(contents, prefix):
        message = f"`{reader.content.input_name}` and `prefix` must have the same number of rows."
        same_rows = tf.debugging.assert_equal(tf.shape(contents), tf.shape(prefix), message)
        with tf.control_dependencies([same_rows]):
            missing = tf.fill([tf.maximum(1 - tf.shape(prefix)[0], 0)], "")
            prefix = beginnings(prefix, search.options.max_length)
            prefix = model.target_ids(
                tf.concat([prefix, missing], 0),
                tf.concat([contents, missing], 0),
                search.options.max_source_length,
            )
        prefix = prefix[:, : search.options.max_length].to_tensor()
        source, found = search(contents, best_only=True, prefix=prefix)
        found = _first_rows(found, contents)
        ids = found.ids[:, 0]  # (N, L)
        longest = _longest(ids)
        return {
            "text": search.texts(contents, source, found)[:, 0],
            "score": _finite(found.scores[:, 0]),
            "target_tokens": model.target_tokens(ids[:, :longest], contents),
            "token_log_prob": _finite(found.step_log_probs[:, 0, :longest]),
        }

    return complete


def _finite(scores):
    """With the lowest float32 where there is no hypothesis: JSON has no -inf, and servers fail."""
    return tf.maximum(scores, tf.float32.min)


def _first_rows(found, contents):
    rows = tf.shape(contents)[0]
    return SearchResult(*(tensor[:rows] for tensor in found))


def _longest(ids):
    """The number of tokens of the longest of ids (N, L)."""
    ends = tf.where(ids != 0, tf.range(1, tf.shape(ids)[1] + 1), 0)
    return tf.maximum(tf.reduce_max(ends), 0)  # of no rows it is the least int32


def _generate(model, options, inputs, max_length, **more):
    if options.lexicon is not None:
        more["lexicon"] = options.lexicon
    return model.generate(
        **inputs,
        beam_size=options.beam_size,
        max_length=max_length,
        length_penalty=options.length_penalty,
        **{**more, **options.search_options},
    )


def _compiled(search):
    """`serving_default` with a search that XLA compiles."""
    model, options = search.model, search.options
    max_length, searched = options.max_length, options.search_options
    patience = searched.get("patience")
    goes_on = searched.get("finished_apart", False) and (patience is None or patience > 1)
    # This penalty looks at the length of what is not yet finished in the last step.
    goes_on |= searched.get("length_deviation_penalty", 0) > 0

    @functools.partial(search.graph, jit_compile=True)
    def compiled(inputs, length):
        """What was read of N sources -> ids (N, L), source steps (N, L), scores, longest output.

        L is the length of a vector, as XLA wants.
        """
        longest = tf.minimum(tf.size(length), max_length)
        found = _generate(model, options, inputs, longest, static_shapes=True)
        steps = tf.zeros_like(found.ids[:, 0])
        if options.replace_unknown:
            steps = looked_at(found.weights[:, 0], inputs["source"])
        return found.ids[:, 0], steps, found.scores[:, 0], tf.reduce_max(found.lengths)

    def serving_xla(contents):
        rows = tf.shape(contents)[0]
        inputs, is_empty = search.read(contents)
        inputs, is_empty = _padded_to_powers_of_two(inputs), is_empty[:rows]
        # Most outputs are not twice as long as their source. If one is, the search starts again. It
        # does not say of itself whether it would have gone on for more ends than there are beams.
        room = max_length if goes_on else 2 * tf.shape(inputs["source"])[1]
        short = tf.zeros([tf.minimum(room, max_length)])
        whole = tf.zeros([tf.maximum(tf.size(short), max_length)])  # no constant: the same graph
        ids, steps, scores, longest = compiled(inputs, short)
        missing = [[0, 0], [0, max_length - tf.shape(ids)[1]]]
        ids, steps, scores = tf.cond(
            (longest < tf.size(short)) | (tf.size(short) >= max_length),
            lambda: (tf.pad(ids, missing), tf.pad(steps, missing), scores),
            lambda: compiled(inputs, whole)[:3],
        )
        ids = tf.where(is_empty[:, None], 0, ids[:rows])
        scores = tf.where(is_empty, 0.0, scores[:rows])
        steps = steps[:rows] if options.replace_unknown else None
        return {"text": model.target_texts(ids, contents, steps), "score": _finite(scores)}

    return serving_xla


def of_streams(search):
    """The functions of live audio, by name; none unless "stream" is among `options.signatures`.

    `stream_begin` takes the number of streams, `rows`, and gives the state before them and the
    `rate_hz` of the samples. `stream` takes `audio` float [N, C], the next samples of N streams,
    and every tensor of the state; it gives the `text` so far and its `score` [N], and the state for
    the next chunk under the same names. Nothing is kept between calls.

    Args:
        search: Search.

    Returns:
        dict of name -> (function, list of TensorSpecs).
    """
    model, options = search.model, search.options
    if "stream" not in options.signatures:
        return {}
    example = model.initial_state(1, options.beam_size)
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
        found, state = model.stream(inputs["audio"], state, options.length_penalty)
        text = model.target_tokenizer.detokenize(found.ids[:, 0])
        return {"text": text, "score": _finite(found.scores[:, 0]), **_named(state)}

    def stream_begin(rows):
        state = _named(model.initial_state(rows, options.beam_size))
        return {"rate_hz": tf.constant(model.source_tokenizer.features.rate_hz), **state}

    rows = tf.TensorSpec([], tf.int32, "rows")
    return {
        "stream": (search.with_weights(stream), [specs]),
        "stream_begin": (search.with_weights(stream_begin), [rows]),
    }


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


def _padded_to_powers_of_two(inputs):
    """Source ids (N, S) -> ids of at least 8 columns, rows and columns powers of two.

    XLA compiles once for each shape. Added rows, of all inputs, repeat the first one: of others the
    search would not know when to stop.
    """
    powers = 2 ** tf.range(31)

    def room(count, least):
        return tf.reduce_min(tf.where(powers >= tf.maximum(count, least), powers, powers[-1]))

    rows, steps = tf.shape(inputs["source"])[0], tf.shape(inputs["source"])[1]
    source = tf.pad(inputs["source"], [[0, 0], [0, room(steps, 8) - steps]])
    return {
        name: tf.concat([x, tf.repeat(x[:1], room(rows, 1) - rows, axis=0)], 0)
        for name, x in {**inputs, "source": source}.items()
    }


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
        step_log_probs=tf.where(is_empty[:, None, None], 0.0, found.step_log_probs),
    )
