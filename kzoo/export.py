"""Seq2Seq -> SavedModel, and back as a function from texts to texts.

    export.save(model, export.next_version("saved_models/en-de"), card={"data": "..."})
    translate = export.load("saved_models/en-de")
    translate("A dog runs.")

The SavedModel takes raw texts; a server needs TensorFlow and the ops of tensorflow_text, no kzoo.

Axis letters: N texts, K beams, L longest output, S source tokens, T target tokens.
"""

import datetime
import functools
import json
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
import tensorflow_text  # noqa: F401  (registers the ops that a loaded model runs)

from kzoo import batching, warmup
from kzoo.engines import in_float32, to_ctranslate2, to_tflite, written_at_once  # noqa: F401
from kzoo.search import SearchResult
from kzoo.seq2seq import looked_at
from kzoo.text import END_ID

_TEXT = tf.TensorSpec([None], tf.string, name="text")
_STATED = ("data", "licence", "command", "time", "machine")  # a card without them says so


def save(
    model,
    path,
    *,
    beam_size=4,
    max_length=128,
    length_penalty=0.6,
    max_source_length=256,
    replace_unknown=False,
    lexicon=None,
    card=None,
    metrics=None,
    examples=(),
    evaluate=None,
):
    """Writes a model with its tokenizers and its search as a SavedModel.

    | signature | outputs for `text` string [N] |
    |---|---|
    | `serving_default` | `text` string [N], `score` float [N] |
    | `n_best` | `text` string [N, K], `score` float [N, K], `log_prob` float [N, K], best first |
    | `align` | `text` [N], `source_tokens` string [N, S], `target_tokens` string [N, T], |
    | | `alignment` float [N, T, S] |
    | `serving_xla` | as `serving_default`, from a search that XLA compiles |

    In `align`, S and T are the longest of the batch; both kinds of tokens end with "</s>", padding
    is "" and 0, and a row of attention weights sums to 1. A source of more than
    `max_source_length` tokens is cut. An empty source has the empty text as its only hypothesis,
    with score 0 and no target tokens; further ones score -inf. The answer to a text does not depend
    on the rest of the batch.

    `serving_xla` is for small models and small batches. The server must have XLA, and compiles the
    search anew for every new pair of batch size and source length, which takes seconds: sizes are
    rounded up to powers of two, and warm-up requests spare the first users the wait.

    The graph computes in float32, however the model was trained. Everything is written to a hidden
    folder beside `path` and renamed at the end: there is a whole model or none.

    Args:
        model: Seq2Seq with both tokenizers, its weights built.
        path: str or path that does not exist yet; `next_version` gives one as servers want them.
        beam_size: int, K.
        max_length: int, L, most tokens of an output, the end token included.
        length_penalty: float, exponent of the GNMT length penalty.
        max_source_length: int, most tokens of a source, the end token not counted.
        replace_unknown: bool, whether an unknown word of an answer becomes the source word that it
            looked at most; for words and characters.
        lexicon: `lexicon.Lexicon`, the candidate lists that answers are made of, or None for all
            words.
        card: dict of what `model_card.md` says: "name", "description", "data", "licence",
            "command", "time", "machine" and more.
        metrics: dict of numbers, texts and `metrics.Score`s for `metrics.json` and the card.
        examples: source texts; the card shows what the written SavedModel answers, and servers
            warm up with them.
        evaluate: function from the written ServedModel to a dict of more `metrics`: scores of the
            very thing that is served, on record before the folder gets its name.

    Returns:
        pathlib.Path, the folder written.

    Raises:
        FileExistsError: `path` exists.
        ValueError: `model` lacks a tokenizer or weights, or `max_source_length` is not positive.
    """
    path = Path(path)
    _check_model(model)
    if max_source_length < 1:
        raise ValueError(
            f"`max_source_length` must be at least 1, got max_source_length={max_source_length}."
        )
    options = {
        "beam_size": beam_size,
        "max_length": max_length,
        "length_penalty": length_penalty,
        "max_source_length": max_source_length,
        "replace_unknown": replace_unknown,
        "lexicon": lexicon,
    }
    with written_at_once(path) as folder:
        _write_saved_model(model, folder, **options)
        warmup.write(folder, examples)
        measured = evaluate(ServedModel(folder)) if evaluate else {}
        metrics = {name: _plain(value) for name, value in {**(metrics or {}), **measured}.items()}
        (folder / "metrics.json").write_text(
            json.dumps(metrics, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
        )
        answers = ServedModel(folder)(list(examples)) if examples else []
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


class ServedModel:
    """A SavedModel as a function. One text in, one answer out; a list in, a list out.

    Texts are str, or bytes as they came. A list is answered in batches of texts of like length.

    Args:
        path: str or path of the SavedModel.
        batch_size: int, most texts that are answered at once.

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

    def __call__(self, texts):
        """The best answer to each text: str, or a list of N str.

        Raises:
            ValueError: `texts` is neither a text nor a list of texts.
        """
        return self._answers(texts, "serving_default", lambda row: row["text"].decode())

    def n_best(self, texts):
        """The K best answers to each text: a list of (str, float score), best first, or N of them.

        Hypotheses without probability are left out, so that an empty text has one answer.
        """

        def answer(row):
            pairs = zip(row["text"], row["score"].tolist(), strict=True)
            return [(text.decode(), score) for text, score in pairs if score > -np.inf]

        return self._answers(texts, "n_best", answer)

    def align(self, texts):
        """The best answer to each text with its attention weights: an Alignment, or N of them."""

        def answer(row):
            source, target = _unpadded(row["source_tokens"]), _unpadded(row["target_tokens"])
            weights = row["alignment"][: len(target), : len(source)]
            return Alignment(row["text"].decode(), source, target, weights)

        return self._answers(texts, "align", answer)

    def _answers(self, texts, signature, answer):
        is_one = isinstance(texts, str | bytes)
        texts = _as_bytes([texts] if is_one else texts)
        run = self._model.signatures[signature]

        def answers_to(batch):
            outputs = run(text=tf.constant(batch, tf.string))
            outputs = {name: tensor.numpy() for name, tensor in outputs.items()}
            return [
                answer({name: values[row] for name, values in outputs.items()})
                for row in range(len(batch))
            ]

        answers = batching.map_by_length(answers_to, texts, self.batch_size)
        return answers[0] if is_one else answers


def _as_bytes(texts):
    if not isinstance(texts, list | tuple) or not all(isinstance(t, str | bytes) for t in texts):
        raise ValueError(f"`texts` must be a str or a list of str, got {texts!r}.")
    # A lone surrogate becomes bytes that are not UTF-8, and so unknown characters.
    return [t.encode("utf-8", "surrogatepass") if isinstance(t, str) else t for t in texts]


def _unpadded(tokens):
    """Without the "" at the end; one in the middle is an answer of the model."""
    used = np.flatnonzero(tokens != b"")
    return [token.decode() for token in tokens[: used[-1] + 1 if used.size else 0]]


def _write_saved_model(model, folder, **options):
    archive = keras.export.ExportArchive()
    archive.track(model.source_tokenizer)
    archive.track(model.target_tokenizer)
    with in_float32(model):
        for name, function in _signatures(model, **options).items():
            archive.add_endpoint(name, function, input_signature=[_TEXT])
        archive.write_out(str(folder), verbose=False)  # traces the functions


def _signatures(
    model, beam_size, max_length, length_penalty, max_source_length, replace_unknown, lexicon
):
    """The functions to export, by name."""
    tokenizer = model.target_tokenizer

    def answers(text, source, ids, weights):
        """Target ids (N, L) of texts (N,) with weights (N, L, S) -> texts (N,)."""
        if not replace_unknown:
            return model.target_texts(ids)
        return model.target_texts(ids, text, looked_at(weights, source))

    def search(text, best_only):
        """Texts (N,) -> source ids (N, S) with end, SearchResult."""
        rows = tf.shape(text)[0]
        # A batch without rows has one during the search: not every layer can do with 0.
        text = tf.concat([text, tf.fill([tf.maximum(1 - rows, 0)], "")], 0)
        source = model.source_ids(text, max_source_length)
        found = model.generate(
            source,
            beam_size=beam_size,
            max_length=max_length,
            length_penalty=length_penalty,
            lexicon=lexicon,
            best_only=best_only,
        )
        found = _silenced(found, source[:, 0] == END_ID)
        return source[:rows], SearchResult(*(tensor[:rows] for tensor in found))

    @functools.partial(tf.function, input_signature=[_TEXT], autograph=False)  # traced once for two
    def best(text):
        return search(text, best_only=True)

    def serving_default(text):
        source, found = best(text)
        texts = answers(text, source, found.ids[:, 0], found.weights[:, 0])
        return {"text": texts, "score": found.scores[:, 0]}

    @functools.partial(tf.function, jit_compile=True, autograph=False)
    def compiled(source, length):
        """Source ids (N, S) -> ids (N, L), source steps (N, L), scores, longest output.

        L is the length of a vector, as XLA wants.
        """
        found = model.generate(
            source,
            beam_size=beam_size,
            max_length=tf.minimum(tf.size(length), max_length),
            length_penalty=length_penalty,
            lexicon=lexicon,
            static_shapes=True,
        )
        steps = tf.zeros_like(found.ids[:, 0])
        if replace_unknown:
            steps = looked_at(found.weights[:, 0], source)
        return found.ids[:, 0], steps, found.scores[:, 0], tf.reduce_max(found.lengths)

    def serving_xla(text):
        rows = tf.shape(text)[0]
        text = tf.concat([text, tf.fill([tf.maximum(1 - rows, 0)], "")], 0)
        source = _padded_to_powers_of_two(model.source_ids(text, max_source_length))
        # Most outputs are not twice as long as their source. If one is, the search starts again.
        short = tf.zeros([tf.minimum(2 * tf.shape(source)[1], max_length)])
        ids, steps, scores, longest = compiled(source, short)
        missing = [[0, 0], [0, max_length - tf.shape(ids)[1]]]
        ids, steps, scores = tf.cond(
            (longest < tf.size(short)) | (tf.size(short) >= max_length),
            lambda: (tf.pad(ids, missing), tf.pad(steps, missing), scores),
            lambda: compiled(source, tf.zeros([max_length]))[:3],
        )
        is_empty = source[:rows, 0] == END_ID
        ids = tf.where(is_empty[:, None], 0, ids[:rows])
        scores = tf.where(is_empty, 0.0, scores[:rows])
        from_text = (text[:rows], steps[:rows]) if replace_unknown else ()
        return {"text": model.target_texts(ids, *from_text), "score": scores}

    def n_best(text):
        source, found = search(text, best_only=False)
        ids, weights = (
            tf.concat(tf.unstack(x, beam_size, 1), 0) for x in (found.ids, found.weights)
        )
        texts = answers(tf.tile(text, [beam_size]), tf.tile(source, [beam_size, 1]), ids, weights)
        return {
            "text": tf.transpose(tf.reshape(texts, (beam_size, -1))),
            "score": found.scores,
            "log_prob": found.log_probs,
        }

    def align(text):
        source, found = best(text)
        ids = found.ids[:, 0]  # (N, L)
        ends = tf.where(ids != 0, tf.range(1, max_length + 1), 0)
        longest = tf.maximum(tf.reduce_max(ends), 0)  # of no rows it is the least int32
        return {
            "text": answers(text, source, ids, found.weights[:, 0]),
            "source_tokens": model.source_tokenizer.tokens(source),
            "target_tokens": tokenizer.tokens(ids[:, :longest]),
            "alignment": found.weights[:, 0, :longest],
        }

    return {
        "serving_default": serving_default,
        "n_best": n_best,
        "align": align,
        "serving_xla": serving_xla,
    }


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
        if not getattr(model, name).built:
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
        "vocabulary": f"{model.source_tokenizer.vocabulary_size():,} source, "
        f"{model.target_tokenizer.vocabulary_size():,} target",
        "search": f"beam size {options['beam_size']}, "
        f"length penalty {options['length_penalty']}, "
        f"at most {options['max_length']} tokens with the end",
        "source": f"cut after {options['max_source_length']} tokens; "
        "an empty text is answered with an empty text",
        "exported": f"{datetime.date.today()}, TensorFlow {tf.__version__}, "
        f"Keras {keras.__version__}",
    }
    parts = [f"# {name}", description, _table(("", ""), facts.items())]
    if metrics:
        parts += ["## Scores", _table(("metric", "value", "signature"), _score_rows(metrics))]
    if answers:
        rows = zip(examples, answers, strict=True)
        parts += ["## What it answers", _table(("source", "answer"), rows)]
    parts += ["## How to use it", _USAGE.format(path=path)]
    return "\n\n".join(part for part in parts if part) + "\n"


_USAGE = """\
    python -m kzoo {path} "text"

In Python with `kzoo.load`, or without kzoo:

    import tensorflow as tf
    import tensorflow_text  # registers the ops

    model = tf.saved_model.load("{path}")
    model.signatures["serving_default"](text=tf.constant(["text"]))

Signatures, each with the input `text` string [N]: `serving_default` (text, score), `n_best` (text,
score, log_prob; K of each), `align` (text, source_tokens, target_tokens, alignment)."""


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
