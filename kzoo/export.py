"""A model -> SavedModel, and back as a function from texts, sounds or pictures to texts.

    export.save(model, export.next_version("saved_models/en-de"), card={"data": "..."})
    translate = export.load("saved_models/en-de")
    translate("A dog runs.")

The SavedModel takes raw texts, or the bytes of WAV files or pictures; a server needs
TensorFlow and the ops of tensorflow_text, no kzoo.

Axis letters: N contents, K beams, L longest output, S memory steps, T target tokens, C samples of a
chunk.
"""

import datetime
import json
import re
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
import tensorflow_text  # noqa: F401  (registers the ops that a loaded model runs)

from kzoo import batching, signatures, warmup
from kzoo.engines import written_at_once
from kzoo.precision import computing_in

# Of `Seq2Seq.generate`; those that are one value for each source are left out.
_SEARCH_OPTIONS = {
    *("min_length", "coverage_penalty", "length_deviation_penalty", "no_repeat_ngram"),
    *("repetition_penalty", "allowed", "groups", "diversity_penalty"),
}
_STATED = ("data", "licence", "command", "time", "machine")  # a card without them says so


def save(
    model,
    path,
    *,
    beam_size=4,
    max_length=128,
    length_penalty=0.6,
    max_source_length=None,
    search_options=None,
    request_batching=None,
    replace_unknown=False,
    lexicon=None,
    precision="float32",
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
    | `serving_xla` | as `serving_default`, from a search that XLA compiles; texts only |
    | `complete`, with `prefix` | `text` [N], `score` [N], `target_tokens` string [N, T], |
    | string [N] | `token_log_prob` float [N, T]; not with a lexicon or CTC alone |
    | `stream` | live audio, a chunk at a time, if the model can: `signatures.of_streams` |

    In `align` and `complete`, S and T are the longest of the batch; the tokens of texts end with
    "</s>", but not those of CTC alone; padding is "" and 0, and a row of attention weights sums
    to 1. A source of more than `max_source_length` tokens is cut. An empty source has the empty
    text as its only hypothesis, with score 0 and no target tokens; further ones score -inf. The
    answer to a text does not depend on the rest of the batch.

    `complete` begins its answers with the tokens of `prefix`, which may be "": what a translator
    has typed already. A prefix should end where a word ends, since subwords are not cut anew.

    For speech the source tokens are the seconds at which the steps begin that a token may look at,
    as "0.12". A file that is no WAV, or longer than `max_source_length` seconds, fails its batch
    with InvalidArgument. One without sound, or less than a frame, is empty.

    For pictures they are the regions of the grid that the square has, as "0,6" for the last of the
    first row of 7. What is no JPEG, PNG, GIF or BMP, is broken, or has more than
    `max_source_length` megapixels, fails its batch with InvalidArgument.

    `serving_xla` is for small models and small batches. The server must have XLA, and compiles the
    search anew for every new pair of batch size and source length, which takes seconds: sizes are
    rounded up to powers of two, and warm-up requests spare the first users the wait.

    The graph computes in `precision`, however the model was trained. Everything is written to a
    hidden folder beside `path` and renamed at the end: there is a whole model or none.

    Args:
        model: Seq2Seq, CTCModel or Ensemble with both tokenizers, its weights built.
        path: str or path that does not exist yet; `next_version` gives one as servers want them.
        beam_size: int, K.
        max_length: int, L, most tokens of an output, the end token included.
        length_penalty: float, exponent of the GNMT length penalty.
        max_source_length: most of a source: tokens, the end token not counted, seconds or
            megapixels. None for 256, 60 and 64 of them.
        search_options: dict of further options of `Seq2Seq.generate`, for all signatures, as
            {"no_repeat_ngram": 3}.
        request_batching: dict or None. With a dict of options of `batching.batch_requests`, as
            {"max_batch_size": 32, "max_delay_ms": 5}, the model itself answers requests that come
            at about the same time in one batch, on any server: in `serving_default`,
            `serving_xla` and `n_best`. Leave it out where the server forms batches.
        replace_unknown: bool, whether an unknown word of an answer becomes the source word that it
            looked at most; for words and characters.
        lexicon: `lexicon.Lexicon` that says which words an answer may hold, or None for all.
        precision: "float32", or "bfloat16" for weights and sums of half the size: faster for large
            models and large batches where the CPU multiplies in it (AMX), and a little less exact.
            Texts only.
        card: dict of what `model_card.md` says: "name", "description", "data", "licence",
            "command", "time", "machine" and more.
        metrics: dict of numbers, texts and `metrics.Score`s for `metrics.json` and the card.
        examples: source texts, or paths of WAV files or pictures; the card shows what the
            written SavedModel answers, and servers warm up with them.
        evaluate: function from the written ServedModel to a dict of more `metrics`: scores of the
            very thing that is served, on record before the folder gets its name.

    Returns:
        pathlib.Path, the folder written.

    Raises:
        FileExistsError: `path` exists.
        ValueError: `model` lacks a tokenizer or weights, `max_source_length` is not positive, or
            `search_options` names what has an argument of its own or is no option of a search, or
            `precision` is neither of the two, or not for this model.
    """
    path = Path(path)
    _check_model(model)
    if lexicon is not None and not model.takes_prefix:
        raise ValueError("`lexicon` must be None for a model without a decoder, such as CTC alone.")
    search_options = search_options or {}
    if unknown := sorted(set(search_options) - _SEARCH_OPTIONS):
        raise ValueError(
            f"`search_options` must be among {', '.join(sorted(_SEARCH_OPTIONS))}, got {unknown}."
        )
    if precision not in ("float32", "bfloat16"):
        raise ValueError(f'`precision` must be "float32" or "bfloat16", got {precision!r}.')
    if precision == "bfloat16" and not model.source_tokenizer.is_static:
        raise ValueError('`precision` must be "float32" but for texts, got "bfloat16".')
    if max_source_length is None:
        max_source_length = model.source_tokenizer.longest
    if max_source_length < 1:
        raise ValueError(
            f"`max_source_length` must be at least 1, got max_source_length={max_source_length}."
        )
    options = signatures.Options(
        beam_size=beam_size,
        max_length=max_length,
        length_penalty=length_penalty,
        max_source_length=max_source_length,
        search_options=search_options,
        request_batching=request_batching,
        replace_unknown=replace_unknown,
        lexicon=lexicon,
        precision=precision,
    )
    with written_at_once(path) as folder:
        _write_saved_model(model, folder, options)
        reader = model.source_tokenizer
        warmup.write(folder, _contents(reader.input_name, examples), neutral=reader.neutral)
        served = ServedModel(folder) if evaluate or examples else None
        measured = evaluate(served) if evaluate else {}
        metrics = {name: _plain(value) for name, value in {**(metrics or {}), **measured}.items()}
        (folder / "metrics.json").write_text(
            json.dumps(metrics, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
        )
        answers = served(list(examples)) if examples else []
        text = _model_card(path, model, options, card or {}, metrics, examples, answers)
        (folder / "model_card.md").write_text(text, encoding="utf-8")
    return path


def next_version(folder):
    """The first free `<folder>/<version>`: servers load the highest version of `<name>/<version>/`.

    Args:
        folder: str or path; need not exist.

    Returns:
        pathlib.Path `<folder>/1`, or one above the highest number there is.
    """
    return Path(folder) / str(max(_versions(folder), default=0) + 1)


def load(path):
    """Loads an exported model as a Python function; see `ServedModel`.

    Args:
        path: str or path of a SavedModel, or of a folder of versions: the highest is taken.

    Returns:
        ServedModel.

    Raises:
        FileNotFoundError: `path` does not exist.
        ValueError: `path` is not a SavedModel, or not one of kzoo's for texts.

    Example:

    >>> translate = kzoo.load("saved_models/demo-en-de")  # doctest: +SKIP
    >>> translate("Turn off the light.")  # doctest: +SKIP
    'Schalte das Licht aus.'
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"`path` must be a SavedModel, but {str(path)!r} does not exist.")
    if not tf.saved_model.contains_saved_model(str(path)) and _versions(path):
        path = path / str(max(_versions(path)))
    if not tf.saved_model.contains_saved_model(str(path)):
        raise ValueError(
            "`path` must be the folder of a SavedModel or of its versions 1, 2, ..., "
            f"but {str(path)!r} holds no saved_model.pb."
        )
    return ServedModel(path)


class Alignment(NamedTuple):
    """An answer and what each of its tokens looked at."""

    text: str
    source_tokens: list  # S str, the last one "</s>"
    target_tokens: list  # T str, the last one "</s>" unless the answer was cut at L
    weights: np.ndarray  # (T, S) float32


class Completion(NamedTuple):
    """An answer that begins as asked, and how sure the model was of each token."""

    text: str
    score: float
    target_tokens: list  # T str, those of the prefix included, the last one "</s>"
    token_log_probs: np.ndarray  # (T,) float32


class ServedModel:
    """A SavedModel as a function. One content in, one answer out; a list in, a list out.

    A content is a text, str or bytes as they came; or for a model of speech the path of a WAV file,
    or its bytes, and likewise for one of pictures. A list is answered in batches of contents of
    like length.

    Args:
        path: str or path of the SavedModel.
        batch_size: int, most contents that are answered at once.

    Attributes:
        input_name: "text", "audio_bytes" or "image_bytes".
        rate_hz: int, samples a second of live audio; None for a model that does not take any.

    Example:
        >>> translate = ServedModel("saved_models/en-de/1")
        >>> translate("A dog runs.")
        "Ein Hund rennt."
        >>> translate(["A dog runs.", "A cat sleeps."])
        ["Ein Hund rennt.", "Eine Katze schläft."]

    Raises:
        ValueError: the SavedModel cannot be loaded or lacks one of the signatures.
    """

    def __init__(self, path, batch_size=32):
        self.path = Path(path)
        self.batch_size = batch_size
        try:
            self._model = tf.saved_model.load(str(path))  # the signatures do not keep it alive
        except (OSError, tf.errors.OpError) as error:
            raise ValueError(
                f"`path` must be a whole SavedModel, but {str(path)!r} cannot be loaded: {error}"
            ) from error
        missing = {"serving_default", "n_best", "align"} - set(self._model.signatures)
        if missing:
            raise ValueError(
                f"`path` must hold a SavedModel that kzoo exported, but {str(path)!r} has "
                f"no signature {', '.join(sorted(missing))}."
            )
        (self.input_name,) = self._model.signatures["serving_default"].structured_input_signature[1]
        self.rate_hz = None
        if "stream" in self._model.signatures:
            self.rate_hz = int(self._begin(1)["rate_hz"])

    def __call__(self, contents):
        """The best answer to each content: str, or a list of N str.

        Raises:
            ValueError: `contents` is neither a content nor a list of contents, or one of them is
                refused, such as a file that is no WAV or picture.
        """
        return self._answers(contents, "serving_default", lambda row: row["text"].decode())

    def n_best(self, contents):
        """The K best answers to each content: a list of (str, float score), best first, or N.

        Hypotheses without probability are left out, so that an empty text has one answer.
        """

        def answer(row):
            pairs = zip(row["text"], row["score"].tolist(), strict=True)
            return [(text.decode(), score) for text, score in pairs if score > -np.inf]

        return self._answers(contents, "n_best", answer)

    def align(self, contents):
        """The best answer to each content with its attention weights: an Alignment, or N."""

        def answer(row):
            source, target = _unpadded(row["source_tokens"]), _unpadded(row["target_tokens"])
            weights = row["alignment"][: len(target), : len(source)]
            return Alignment(row["text"].decode(), source, target, weights)

        return self._answers(contents, "align", answer)

    def complete(self, content, prefix):
        """The best answer to one content that begins with the text `prefix`: a Completion.

        Raises:
            ValueError: the model takes no prefix, or an argument is of another kind.
        """
        if "complete" not in self._model.signatures:
            raise ValueError(
                "`prefix` needs a model that was exported with the signature `complete`, which CTC "
                f"alone and a lexicon do not have, but {self.path} was not."
            )
        run = self._model.signatures["complete"]
        given = {self.input_name: _contents(self.input_name, [content])}
        given |= {"prefix": _contents("text", [prefix])}
        inputs = {name: tf.constant(value, tf.string) for name, value in given.items()}
        row = {name: tensor.numpy()[0] for name, tensor in run(**inputs).items()}
        tokens = _unpadded(row["target_tokens"])
        return Completion(
            row["text"].decode(), float(row["score"]), tokens, row["token_log_prob"][: len(tokens)]
        )

    def stream(self, samples, state=None):
        """Takes up a live stream where the state says.

        Args:
            samples: (C,) float in [-1, 1], the next samples at `rate_hz`; C may be 0. Or (N, C), of
                N streams that have had equally many.
            state: as `stream` returned it; None before the first chunk.

        Returns:
            text: str, all so far, or a list of N str. state: dict of tensors, for the next chunk.

        Raises:
            ValueError: the model does not take live audio, or `samples` have other axes.
        """
        if self.rate_hz is None:
            raise ValueError(f"`stream` needs a model of live audio, but {self.path} is none.")
        samples = np.asarray(samples, np.float32)
        if samples.ndim not in (1, 2):
            raise ValueError(f"`samples` must have shape (C,) or (N, C), got {samples.shape}.")
        rows = samples if samples.ndim == 2 else samples[None]
        if state is None:
            state = _state_of(self._begin(len(rows)))
        outputs = self._model.signatures["stream"](audio=tf.constant(rows), **state)
        texts = [text.decode() for text in outputs["text"].numpy()]
        return (texts if samples.ndim == 2 else texts[0]), _state_of(outputs)

    def _begin(self, rows):
        return self._model.signatures["stream_begin"](rows=tf.constant(rows))

    def _answers(self, contents, signature, answer):
        is_one = isinstance(contents, str | bytes | Path)
        contents = [contents] if is_one else contents
        given = _contents(self.input_name, contents)
        run = self._model.signatures[signature]

        def answers_to(batch):
            outputs = run(**{self.input_name: tf.constant(batch, tf.string)})
            outputs = {name: tensor.numpy() for name, tensor in outputs.items()}
            return [
                answer({name: values[row] for name, values in outputs.items()})
                for row in range(len(batch))
            ]

        try:
            answers = batching.map_by_length(answers_to, given, self.batch_size)
        except tf.errors.InvalidArgumentError:
            for content, name in zip(given, contents, strict=True):  # which one is it?
                _explained(answers_to, content, name)
            raise
        return answers[0] if is_one else answers


def _state_of(outputs):
    return {name: outputs[name] for name in outputs if name not in signatures.NOT_STATE}


def _explained(answers_to, content, name):
    try:
        answers_to([content])
    except tf.errors.InvalidArgumentError as error:
        name = f"{len(name)} bytes" if isinstance(name, bytes) else str(name)
        raise ValueError(f"{name} was refused: {_rule(error.message)}") from None


def _rule(message):
    """What TensorFlow says of the input: one line among traces and the names of nodes."""
    if asserted := re.search(r"assertion failed: (.*\])", message):
        return asserted[1]
    before = message.split("[[{{")[0].strip() or message
    said = before.splitlines()[-1]
    return re.sub(r"\{\{function_node [^}]*\}\}|\[Op:[^\]]*\]", "", said).strip()


def _contents(input_name, contents):
    """Contents as bytes, whatever they came as."""
    read, kinds, expected = _CONTENTS[input_name]
    is_list = isinstance(contents, list | tuple)
    if not is_list or not all(isinstance(content, kinds) for content in contents):
        raise ValueError(f"{expected}, got {contents!r}.")
    return [content if isinstance(content, bytes) else read(content) for content in contents]


def _utf_8(text):
    # A lone surrogate becomes bytes that are not UTF-8, and so unknown characters.
    return text.encode("utf-8", "surrogatepass")


def _file(path):
    return Path(path).read_bytes()


_CONTENTS = {
    "text": (_utf_8, (str, bytes), "`texts` must be a str or a list of str"),
    "audio_bytes": (
        _file, (str, Path, bytes), "`contents` must be a path or bytes of a WAV file, or a list"
    ),
    "image_bytes": (
        _file, (str, Path, bytes), "`contents` must be a path or bytes of a picture, or a list"
    ),
}  # fmt: skip


def _unpadded(tokens):
    """Without the "" at the end; one in the middle is an answer of the model."""
    used = np.flatnonzero(tokens != b"")
    return [token.decode() for token in tokens[: used[-1] + 1 if used.size else 0]]


def _write_saved_model(model, folder, options):
    archive = keras.export.ExportArchive()
    with computing_in(options.precision, model) as model:
        archive.track(model.source_tokenizer)
        archive.track(model.target_tokenizer)
        functions = signatures.of_contents(model, options)
        functions |= signatures.of_streams(model, options.beam_size, options.length_penalty)
        for name, (function, specs) in functions.items():
            archive.add_endpoint(name, function, input_signature=specs)
        archive.write_out(str(folder), verbose=False)  # traces the functions


def _versions(folder):
    """The numbers among the names in a folder."""
    folder = Path(folder)
    names = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
    return [int(name) for name in names if name.isascii() and name.isdigit()]


def _check_model(model):
    for name in ("source_tokenizer", "target_tokenizer"):
        if getattr(model, name, None) is None:
            raise ValueError(f"`model` must have a {name}: the SavedModel takes and gives texts.")
    for name in ("encoder", "decoder", "head"):
        part = getattr(model, name, None)  # CTC has no decoder
        if part is not None and not part.built:
            raise ValueError(
                f"`model` must be built, but its {name} has no weights yet: "
                "fit it, call it or load its weights first."
            )


def _plain(value):
    return value._asdict() if hasattr(value, "_asdict") else value  # a metrics.Score


def _model_card(path, model, options, card, metrics, examples, answers):
    card = dict(card)
    name = card.pop("name", path.parent.name if path.name.isdigit() else path.name)
    description = card.pop("description", "")
    stated = {key: card.pop(key, "not stated") for key in _STATED}
    facts = {
        **stated,
        **card,
        "parameters": f"{model.count_params():,}",
        "vocabulary": f"{model.target_tokenizer.vocabulary_size():,} entries",
        "search": f"beam size {options.beam_size}, "
        f"length penalty {options.length_penalty}, {_listed(options.search_options)}"
        f"at most {options.max_length} tokens with the end" + _words_of(options),
        **model.source_tokenizer.facts(options.max_source_length),
        "precision": options.precision,
        "exported": f"{datetime.date.today()}, TensorFlow {tf.__version__}, "
        f"Keras {keras.__version__}",
    }
    parts = [f"# {name}", description, _table(("", ""), facts.items())]
    if metrics:
        parts += ["## Scores", _table(("metric", "value", "signature"), _score_rows(metrics))]
    if answers:
        rows = zip(examples, answers, strict=True)
        parts += ["## What it answers", _table(("source", "answer"), rows)]
    reader = model.source_tokenizer
    shell, value = reader.usage
    usage = _USAGE.format(path=path, shell=shell, value=value, name=reader.input_name)
    if reader.is_static:
        usage += _XLA_USAGE
    if model.takes_prefix and options.lexicon is None:
        usage += _COMPLETE_USAGE
    if model.can_stream:
        usage += _STREAM_USAGE.format(path=path, rate=reader.features.rate_hz)
    parts += ["## How to use it", usage]
    return "\n\n".join(part for part in parts if part) + "\n"


_USAGE = """\
    python -m kzoo {path} {shell}

In Python with `kzoo.load`, or without kzoo:

    import tensorflow as tf
    import tensorflow_text  # registers the ops

    model = tf.saved_model.load("{path}")
    model.signatures["serving_default"]({name}=tf.constant([{value}]))

Signatures, each with the input `{name}` string [N]: `serving_default` (text, score), `n_best`
(text, score, log_prob; K of each), `align` (text, source_tokens, target_tokens, alignment)."""

_XLA_USAGE = """
`serving_xla` is as `serving_default`, from a search that XLA compiles."""

_COMPLETE_USAGE = """
`complete` has a second input, `prefix` string [N], which the answers begin with (text, score,
target_tokens, token_log_prob)."""

_STREAM_USAGE = """

For live audio `stream_begin` gives the state of `rows` streams and the rate of the samples;
`stream` takes the next samples, `audio` float [N, C], with every tensor of the state, and gives the
text so far and the state for the next chunk. Keep that: the server keeps nothing.

    arecord -f S16_LE -c 1 -r {rate} -t raw | python -m kzoo {path} --live"""


def _words_of(options):
    """What the card says of the words that an answer may hold."""
    said = ""
    if options.lexicon is not None:
        said += (
            f"; of the {options.lexicon.frequent:,} most frequent words and at most "
            f"{options.lexicon.room} that were aligned with the source's in training"
        )
    if options.replace_unknown:
        said += "; an unknown word is answered by the source word it looked at"
    return said


def _listed(search_options):
    return "".join(
        f"{name} {value}, " if np.ndim(value) == 0 else f"{name} given, "
        for name, value in search_options.items()
    )


def _score_rows(metrics):
    for name, value in metrics.items():
        if isinstance(value, dict) and {"name", "value", "signature"} <= value.keys():
            kind = "" if value["name"].lower() in name.lower() else f" ({value['name']})"
            yield f"{name}{kind}", f"{value['value']:.2f}", value["signature"]
        else:
            yield name, value, ""


def _table(header, rows):
    rows = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(_cell(value) for value in row)} |" for row in rows)


def _cell(value):
    return " ".join(str(value).replace("|", "\\|").split())
