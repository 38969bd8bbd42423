"""A model -> SavedModel, and back as a function from texts, sounds or pictures to texts.

    export.save(model, export.next_version("saved_models/en-de"), card={"data": "..."})
    translate = export.load("saved_models/en-de")
    translate("A dog runs.")

The SavedModel takes raw texts, or the bytes of WAV files or pictures; a server needs
TensorFlow and the ops of tensorflow_text, no kzoo.

Axis letters: N contents, K beams, L longest output, S memory steps, T target tokens, C samples of a
chunk.
"""

import functools
import json
import os
from pathlib import Path

import numpy as np
import tensorflow as tf

from kzoo import checks
from kzoo.contents import LANGUAGE, TEXT
from kzoo.export import keras_model, warmup
from kzoo.export.card import model_card
from kzoo.export.folder import written_at_once
from kzoo.export.precision import PRECISIONS, STORED, StoredWeights, computing_in
from kzoo.export.preconditions import check_built
from kzoo.export.served import ServedModel
from kzoo.export.signatures import Options, Search, all_names, of_contents, of_streams
from kzoo.models.ctc_model import CTCModel
from kzoo.models.windows import Doubts, check_room, signs_of
from kzoo.search.options import SHARED


def save(
    model,
    path,
    *,
    signatures=None,
    beam_size=4,
    max_length=None,
    length_penalty=0.6,
    max_source_length=None,
    search_options=None,
    request_batching=None,
    replace_unknown=False,
    lexicon=None,
    precision="float32",
    doubts=None,
    card=None,
    metrics=None,
    examples=(),
    evaluate=None,
):
    """Writes a model with its tokenizers and its search as a SavedModel.

    | signature | outputs for `text`, or `audio_bytes` or `image_bytes`, string [N] |
    |---|---|
    | `serving_default` | `text` string [N], `score` float [N] |
    | `n_best` | `text` string [N, K], `score` float [N, K], `log_prob` float [N, K], best first |
    | `align` | `text` [N], `source_tokens` string [N, S], `target_tokens` string [N, T], |
    | | `alignment` float [N, T, S] |
    | `segments` | `text` [N], `segment` string [N, G], `begin`, `end` in seconds and `no_speech` |
    | | float [N, G], `word_count` int [N, G]; `word` string [N, M], `word_begin`, `word_end` |
    | | float [N, M]; for speech models that hear windows with times, as Whisper does |
    | `serving_xla` | as `serving_default`, from a search that XLA compiles; texts only |
    | `complete`, with `prefix` | `text` [N], `score` [N], `target_tokens` string [N, T], |
    | string [N] | `token_log_prob` float [N, T]; not with a lexicon or CTC alone |
    | `stream` | live audio, a chunk at a time, if the model can: `signatures.of_streams` |

    In `align` and `complete`, S and T are the longest of the batch; the tokens of texts end with
    "</s>", but not those of CTC alone; padding is "" and 0, and a row of attention weights sums
    to 1. A source of more than `max_source_length` tokens is cut. An empty source has the empty
    text as its only hypothesis, with score 0 and no target tokens; further ones score the lowest
    float32, as JSON has no -inf. The
    answer to a text does not depend on the rest of the batch.

    `complete` begins its answers with the tokens of `prefix`, which may be "": what a translator
    has typed already. A prefix should end where a word ends, since subwords are not cut anew.

    For speech the source tokens are the seconds at which the steps begin that a token may look at,
    as "0.12". A file that is no WAV, or longer than `max_source_length` seconds, fails its batch
    with InvalidArgument. One without sound, or less than a frame, is empty.

    A model that has `segments` takes recordings of up to `max_source_length` seconds there and in
    `serving_default`, one window after the other; the other signatures take what fits into one.
    Where nobody speaks the answer is empty, and in these two signatures an answer that is not
    believed is drawn anew: `doubts` says when. Their `score` is the mean log p of the tokens with
    the end, of a recording of several windows the mean over those that have words; 0 without words.

    For pictures they are the regions of the grid that the square has, as "0,6" for the last of the
    first row of 7. What is no JPEG, PNG, GIF or BMP, is broken, or has more than
    `max_source_length` megapixels, fails its batch with InvalidArgument.

    `serving_xla` is for small models and small batches. The server must have XLA, and compiles the
    search anew for every new pair of batch size and source length, which takes seconds: sizes are
    rounded up to powers of two, and warm-up requests spare the first users the wait.

    A model with a Copier answers with words of the source that no vocabulary has, in all of these.

    A model of several target languages, whose source tokenizer says which (`languages`), takes one
    more input in all of these: `language`, string, one code or [N], one for each text. It writes
    the tag ">>fr<<" before a text, in place of one that is there. For "", which servers and
    TensorFlow 1 sessions take where a request leaves `language` out, a tag in the text counts, and
    without one the first language. `tf.saved_model.load` wants it in any case. A language that the
    model does not have fails its batch with InvalidArgument.

    The graph computes in `precision`, however the model was trained. `model.json` beside it says
    how to make the Keras model again, for `pretrained.load`. Everything is written to a hidden
    folder beside `path` and renamed at the end: there is a whole model or none.

    Args:
        model: Seq2Seq, CTCModel or Ensemble with both tokenizers, its weights built.
        path: str or path that does not exist yet; `next_version` gives one as servers want them.
        signatures: names of the signatures to write, "serving_default" among them, or None for all
            that the model can have. With fewer, the export is quicker and smaller: each searches
            in a graph of its own, but "align", which shares that of "serving_default". "stream"
            brings "stream_begin" along.
        beam_size: int, K.
        max_length: int, L, most tokens of an output, the end token included; the rest of what CTC
            alone has heard is cut off. None for 128, and for a CTCModel all that is heard.
        length_penalty: float, exponent of the GNMT length penalty.
        max_source_length: most of a source: tokens, the end token not counted, seconds or
            megapixels. None for 256, 60 and 64 of them.
        search_options: dict of further options of `Seq2Seq.generate`, for all signatures, as
            {"no_repeat_ngram": 3}.
        request_batching: dict or None. With a dict of options of `export.batch_requests`, as
            {"max_batch_size": 32, "max_delay_ms": 5}, the model itself answers requests that come
            at about the same time in one batch, on any server: in `serving_default`,
            `serving_xla` and `n_best`. Leave it out where the server forms batches.
        replace_unknown: bool, whether an unknown word of an answer becomes the source word that it
            looked at most; for words and characters.
        lexicon: `models.Lexicon` that says which words an answer may hold, or None for all.
        precision: "float32"; "bfloat16_weights" or "int8_weights" for weights that are stored in
            half or a quarter of the room and computed with in float32, which casts them in every
            call (`precision.Int8Weight` says how int8 are scaled); or "bfloat16" for weights and
            sums of half the size: faster for large models and large batches where the CPU
            multiplies in it (AMX, AVX512-BF16), a little less exact, and for texts only.
        doubts: `models.Doubts`, when a model that has `segments` takes a window for silence, and
            when it draws anew; None for its defaults.
        card: dict of what `model_card.md` says: "name", "description", "data", "licence",
            "command", "time", "machine" and more.
        metrics: dict of numbers, texts and `metrics.Score`s for `metrics.json` and the card.
        examples: source texts, or paths of WAV files or pictures; the card shows what the
            written SavedModel answers, and servers warm up with those of at most 1 MB, but for a
            model that has `segments`: an example may be too long for its other signatures.
        evaluate: function from the written ServedModel to a dict of more `metrics`: scores of the
            very thing that is served, on record before the folder gets its name.

    Returns:
        Saved: the path of the folder written, the metrics, the loaded model.

    Raises:
        FileExistsError: `path` exists.
        ValueError: `model` lacks a tokenizer or weights, `signatures` names one that the model
            cannot have or lacks "serving_default", `max_source_length` is not positive, or
            `search_options` names what has an argument of its own or is no option of a search, or
            `precision` is none of the four, or not for this model; there are `doubts` for a model
            that cannot have `segments`; or a Whisper has no positions for `max_length` tokens.
    """
    path = Path(path)
    options = _options(
        model,
        signatures=signatures,
        beam_size=beam_size,
        max_length=_most_tokens(model) if max_length is None else max_length,
        length_penalty=length_penalty,
        max_source_length=max_source_length,
        search_options=search_options,
        request_batching=request_batching,
        replace_unknown=replace_unknown,
        lexicon=lexicon,
        precision=precision,
        doubts=doubts,
    )
    content = model.source_tokenizer.content
    given = content.as_bytes(examples)
    with written_at_once(path) as folder:
        keras_model.write(folder, model, _write_saved_model(model, folder, options))
        given = [] if signs_of(model) else given
        warmup.write(folder, given, neutral=content.neutral)
        served = ServedModel(folder) if evaluate or examples else None
        metrics = {**(metrics or {}), **(evaluate(served) if evaluate else {})}
        plain = {name: _plain(value) for name, value in metrics.items()}
        (folder / "metrics.json").write_text(
            json.dumps(plain, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
        )
        answers = served(list(examples)) if examples else []
        text = model_card(path, model, options, card or {}, plain, examples, answers)
        (folder / "model_card.md").write_text(text, encoding="utf-8")
    return Saved(path, metrics, served)


class Saved(os.PathLike):
    """What `save` wrote. It stands for the path of the folder wherever a path may stand.

    Attributes:
        path: pathlib.Path, the folder.
        metrics: dict of all metrics by name, as `metrics` and `evaluate` gave them.
        served: the SavedModel as a ServedModel; loaded on first use, unless `evaluate` or
            `examples` needed it already.
    """

    def __init__(self, path, metrics, served=None):
        self.path = path
        self.metrics = metrics
        if served is not None:
            served.path = path  # until now it was hidden
            self.served = served

    @functools.cached_property
    def served(self):
        return ServedModel(self.path)

    def __fspath__(self):
        return str(self.path)

    def __truediv__(self, name):
        return self.path / name

    def __str__(self):
        return str(self.path)

    def __repr__(self):
        return f"Saved({str(self.path)!r}, metrics={self.metrics!r})"


def _options(
    model, *, signatures, search_options, max_source_length, lexicon, precision, doubts, **others
):
    """Options, or the ValueErrors of `save`."""
    check_built(model)
    checks.require(
        lexicon is None or model.takes_prefix,
        "must be None for a model without a decoder, such as CTC alone",
        lexicon=lexicon,
    )
    names = all_names(model, lexicon)
    if signatures is not None:
        names = _chosen(signatures, names)
    search_options = search_options or {}
    if unknown := sorted(set(search_options) - set(SHARED)):
        raise ValueError(
            f"`search_options` must be among {', '.join(sorted(SHARED))}, got {unknown}."
        )
    hears_windows = "segments" in all_names(model, lexicon)
    if doubts is not None or hears_windows:
        message = "must be kzoo.models.Doubts of a model that hears windows, or None"
        doubts = Doubts() if doubts is None else doubts
        checks.require(hears_windows and isinstance(doubts, Doubts), message, doubts=doubts)
    if hears_windows:
        check_room(model, search_options.get("prompt", model.prompt), others["max_length"])
    if "times" in search_options and hears_windows:
        raise ValueError(
            "`search_options` must not hold `times` for a model that knows them itself, got "
            f"times={search_options['times']}."
        )
    checks.one_of(PRECISIONS, precision=precision)
    is_possible = precision != "bfloat16" or model.source_tokenizer.is_static
    message = 'must be "bfloat16" for texts alone'
    checks.require(is_possible, message, precision=precision)
    if max_source_length is None:
        max_source_length = model.source_tokenizer.content.longest
    checks.at_least(1, max_source_length=max_source_length)
    if model.source_tokenizer.content is TEXT:
        checks.integer(1, max_source_length=max_source_length)
    return Options(
        signatures=names,
        search_options=search_options,
        max_source_length=max_source_length,
        lexicon=lexicon,
        precision=precision,
        doubts=doubts,
        **others,
    )


def _most_tokens(model):
    """`max_length` where none is given: CTC has at most one token a frame, and its streams no
    limit either."""
    return None if isinstance(model, CTCModel) else 128


def _chosen(signatures, names):
    """Those of all `names` that `signatures` holds, in their order."""
    is_known = isinstance(signatures, list | tuple) and all(name in names for name in signatures)
    message = f"must be a list of names among {', '.join(names)}"
    checks.require(is_known, message, signatures=signatures)
    message = 'must hold "serving_default", which servers and `export.load` ask for'
    checks.require("serving_default" in signatures, message, signatures=signatures)
    return tuple(name for name in names if name in signatures)


def _write_saved_model(model, folder, options):
    """Returns, of each variable that was written, its place among the weights of the model and the
    number of the variable that scales it; None for what is no weight or not scaled."""
    with computing_in(options.precision, model) as model:
        kind = STORED.get(options.precision)
        stored = StoredWeights(model, kind) if kind else None
        search = Search(model, options, stored.read_in if stored else None)
        functions = of_contents(search) | of_streams(search)
        # TensorFlow traces a `tf.function` that it saves once more; these it takes as they are.
        traced = {
            name: tf.function(
                function, input_signature=specs, autograph=False
            ).get_concrete_function()
            for name, (function, specs) in functions.items()
        }
        root = tf.Module()
        root.tokenizers = [model.source_tokenizer, model.target_tokenizer]
        root.weights = list({id(v): v for f in traced.values() for v in f.variables}.values())
        for name, function in traced.items():
            setattr(root, name, function)
        signatures = {
            name: _with_default(function, functions[name][1]) for name, function in traced.items()
        }
        tf.saved_model.save(root, str(folder), signatures=signatures)
        replaced = {id(weight): each for weight, each in stored.pairs} if stored else {}
        holders = [replaced.get(id(weight), weight) for weight in model.weights]
        places = {id(each.value): place for place, each in enumerate(holders)}
        scales = {id(each.value): getattr(each, "scale", None) for each in holders}
        numbers = {id(variable): number for number, variable in enumerate(root.weights)}
        return [
            (places.get(id(variable)), numbers.get(id(scales.get(id(variable)))))
            for variable in root.weights
        ]


def _with_default(function, specs):
    """What is saved as a signature: `function`, but that `language` may be left out of a request.

    The SavedModel has the default beside the signature, and a placeholder that takes it.
    """
    names = [getattr(spec, "name", None) for spec in specs]
    default = tf.constant("")
    if LANGUAGE not in names:
        return function
    if len(names) == 2:

        def signature(texts, language=default):
            return function(texts, language)

    else:

        def signature(texts, prefix, language=default):
            return function(texts, prefix, language)

    return tf.function(signature, input_signature=specs, autograph=False)


def _plain(value):
    """What JSON has in place of a number of NumPy's or a Score."""
    if hasattr(value, "_asdict"):
        value = value._asdict()
        return {name: _plain(each) for name, each in value.items() if each is not None}
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return value.item() if isinstance(value, np.generic) else value
