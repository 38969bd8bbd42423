"""A SavedModel as a Python function from texts, sounds or pictures to texts.

    translate = export.load("saved_models/en-de")
    translate("A dog runs.")

Axis letters: N contents, K beams, L longest output, S source steps, T target tokens, C samples of a
chunk.
"""

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from kzoo import batching, contents
from kzoo.export import names, ops

_OUTPUTS = {  # of the signatures; `serving_default` is in every export
    "serving_default": {"text", "score"},
    "n_best": {"text", "score"},
    "align": {"text", "source_tokens", "target_tokens", "alignment"},
    "segments": {
        *("text", "segment", "begin", "end", "no_speech", "word_count"),
        *("word", "word_begin", "word_end"),
    },
}
_NO_SCORE = float(np.finfo(np.float32).min)  # of a hypothesis that there is not; once it was -inf
NOT_STATE = ("text", "score", "rate_hz")  # outputs of `stream` and `stream_begin` beside the state


def load(path_or_name):
    """Loads an exported model as a Python function; see `ServedModel`.

    A path that exists is meant. What does not exist may be the name of a model, looked for in
    saved_models/ of the checkout, in $KZOO_MODELS, and in what `kzoo import` has fetched. Every
    file of a model that is asked by its name must have the SHA-256 of its manifest.

    Args:
        path_or_name: str or path of a SavedModel, or of a folder of versions: the highest is taken;
            or a name, as `kzoo list` shows them.

    Returns:
        ServedModel.

    Raises:
        FileNotFoundError: there is no such path and no such name.
        ValueError: the path is not a SavedModel, or not one of kzoo's; or a file of a named model
            is missing, has changed or is not listed.

    Example:

    >>> translate = kzoo.load("saved_models/demo-en-de")  # doctest: +SKIP
    >>> translate("Turn off the light.")  # doctest: +SKIP
    'Schalte das Licht aus.'
    """
    return ServedModel(names.find(path_or_name))


class Alignment(NamedTuple):
    """An answer and what each of its tokens looked at."""

    text: str
    source_tokens: list  # S str, the last one "</s>"
    target_tokens: list  # T str, the last one "</s>" unless the answer was cut at L
    weights: np.ndarray  # (T, S) float32


class Word(NamedTuple):
    """A word of a recording and when it was said."""

    begin: float  # seconds
    end: float  # seconds
    text: str


class Segment(NamedTuple):
    """A part of a recording and when it was said."""

    begin: float  # seconds
    end: float  # seconds
    text: str
    no_speech: float  # the probability that nobody speaks in its window
    words: list  # of Word


class Recording(NamedTuple):
    """What is said in a recording, and when."""

    text: str  # of all segments, with the spaces that the model has written, or has not
    segments: list  # of Segment


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

    A model of several target languages takes a `language`, one code or a list of one for each text;
    without, a text may begin with its tag, ">>fr<<", and else is answered in the first language.

    Args:
        path: str or path of the SavedModel.
        batch_size: int, most contents that are answered at once.

    Attributes:
        content: contents.Content, what the model reads.
        takes_language: bool, whether there are several target languages to choose from.
        rate_hz: int, samples a second of live audio; None for a model that does not take any.

    Example:
        >>> translate = ServedModel("saved_models/en-de/1")
        >>> translate("A dog runs.")
        "Ein Hund rennt."
        >>> translate(["A dog runs.", "A cat sleeps."])
        ["Ein Hund rennt.", "Eine Katze schläft."]
        >>> ServedModel("saved_models/en-many/1")("A dog runs.", language="fr")
        "Un chien court."

    Raises:
        ValueError: the SavedModel cannot be loaded, or lacks `serving_default` or what goes in or
            out of a signature.
    """

    def __init__(self, path, batch_size=32):
        self.path = Path(path)
        self.batch_size = batch_size
        ops.register()
        try:
            self._model = tf.saved_model.load(str(path))  # the signatures do not keep it alive
        except Exception as error:  # of half a file of weights an IndexError
            raise ValueError(
                f"`path` must be a whole SavedModel, but {str(path)!r} cannot be loaded: {error}"
            ) from error
        self.content = _content_of(self._model.signatures, path)
        self.takes_language = contents.LANGUAGE in _inputs(
            self._model.signatures["serving_default"]
        )
        self.rate_hz = None
        if "stream" in self._model.signatures:
            self.rate_hz = int(self._begin(1)["rate_hz"])

    @property
    def signatures(self):
        """frozenset of str: the names of the signatures that the model was exported with."""
        return frozenset(self._model.signatures)

    @property
    def input_name(self):
        """str: "text", "audio_bytes" or "image_bytes"."""
        return self.content.input_name

    def __call__(self, contents, language=None):
        """The best answer to each content: str, or a list of N str.

        Raises:
            ValueError: `contents` is neither a content nor a list of contents, or one of them is
                refused, such as a file that is no WAV or picture; or the model has not the
                `language`, or but one.
        """

        def answer(row):
            return row["text"].decode()

        return self._answers(contents, "serving_default", answer, language)

    def n_best(self, contents, language=None):
        """The K best answers to each content: a list of (str, float score), best first, or N.

        Hypotheses without probability are left out, so that an empty text has one answer.

        Raises:
            ValueError: as a call; or the model was exported without this signature.
        """

        def answer(row):
            pairs = zip(row["text"], row["score"].tolist(), strict=True)
            return [(text.decode(), score) for text, score in pairs if score > _NO_SCORE]

        return self._answers(contents, "n_best", answer, language)

    def align(self, contents, language=None):
        """The best answer to each content with its attention weights: an Alignment, or N.

        Raises:
            ValueError: as a call; or the model was exported without this signature.
        """

        def answer(row):
            source, target = _unpadded(row["source_tokens"]), _unpadded(row["target_tokens"])
            weights = row["alignment"][: len(target), : len(source)]
            return Alignment(row["text"].decode(), source, target, weights)

        return self._answers(contents, "align", answer, language)

    def segments(self, contents):
        """The parts of each recording that have words: a list of Segments, or N.

        Raises:
            ValueError: as a call; or the model was exported without this signature, which those
                have that hear windows with times, as Whisper does.
        """
        found = self.recordings(contents)
        return found.segments if isinstance(found, Recording) else [one.segments for one in found]

    def recordings(self, contents):
        """The text and the segments of each recording: a Recording, or N.

        Raises:
            ValueError: as `segments`.
        """

        def answer(row):
            names = ("word_begin", "word_end", "word")
            words = [
                Word(float(begin), float(end), text.decode())
                for begin, end, text in zip(*(row[name] for name in names), strict=True)
                if text
            ]
            names = ("begin", "end", "segment", "no_speech", "word_count")
            found, told = [], 0
            for begin, end, text, no_speech, count in zip(
                *(row[name] for name in names), strict=True
            ):
                own, told = words[told : told + count], told + count
                if text:
                    part = float(begin), float(end), text.decode(), float(no_speech), own
                    found.append(Segment(*part))
            return Recording(row["text"].decode(), found)

        return self._answers(contents, "segments", answer)

    def complete(self, content, prefix, language=None):
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
        given = {self.input_name: self.content.as_bytes([content])}
        given |= {"prefix": contents.TEXT.as_bytes([prefix])}
        given |= self._language_input(self._languages(language, 1))
        inputs = {name: tf.constant(value, tf.string) for name, value in given.items()}
        outputs = _explained(lambda: run(**inputs), content)
        row = {name: tensor.numpy()[0] for name, tensor in outputs.items()}
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
            ValueError: the model does not take live audio, `samples` have other axes or are no such
                floats, or `state` is not one of as many streams.
        """
        if self.rate_hz is None:
            raise ValueError(f"`stream` needs a model of live audio, but {self.path} is none.")
        samples = np.asarray(samples, np.float32)
        if samples.ndim not in (1, 2):
            raise ValueError(f"`samples` must have shape (C,) or (N, C), got {samples.shape}.")
        rows = samples if samples.ndim == 2 else samples[None]
        if state is None:
            state = _state_of(self._begin(len(rows)))
        self._check_state(state, len(rows))
        run = self._model.signatures["stream"]
        outputs = _explained(lambda: run(audio=tf.constant(rows), **state), "`samples`")
        texts = [text.decode() for text in outputs["text"].numpy()]
        return (texts if samples.ndim == 2 else texts[0]), _state_of(outputs)

    def _check_state(self, state, rows):
        specs = _inputs(self._model.signatures["stream"])
        specs.pop("audio")
        if not isinstance(state, dict) or set(state) != set(specs):
            names = sorted(state) if isinstance(state, dict) else state
            raise ValueError(f"`state` must be what `stream` returned before, got {names!r:.200}.")
        for name, spec in specs.items():
            shape = np.shape(state[name])
            is_of_rows = not spec.shape.rank or spec.shape[0] is not None or shape[:1] == (rows,)
            if not (spec.shape.is_compatible_with(shape) and is_of_rows):
                raise ValueError(
                    f"`state` must be of as many streams as `samples`, {rows}, got {name} of shape "
                    f"{tuple(shape)}."
                )

    def _begin(self, rows):
        return self._model.signatures["stream_begin"](rows=tf.constant(rows))

    def _languages(self, language, count):
        """The language of each of so many contents; "" for that of the text itself."""
        if language is None:
            return [""] * count
        if not self.takes_language:
            raise ValueError(
                "`language` needs a model of several target languages, got "
                f"language={language!r} for {self.path}, which has one."
            )
        languages = [language] * count if isinstance(language, str) else language
        is_list = isinstance(languages, list | tuple) and len(languages) == count
        if not is_list or not all(isinstance(each, str) for each in languages):
            raise ValueError(
                f"`language` must be a str or a list of {count}, one for each text, "
                f"got {language!r}."
            )
        return list(languages)

    def _language_input(self, languages):
        return {contents.LANGUAGE: languages} if self.takes_language else {}

    def _answers(self, asked, signature, answer, language=None):
        is_one = isinstance(asked, str | bytes | Path)
        asked = [asked] if is_one else asked
        given = self.content.as_bytes(asked)
        languages = self._languages(language, len(given))
        if signature not in self._model.signatures:
            raise ValueError(
                f"`{signature}` needs a model that was exported with the signature `{signature}`, "
                f"but {self.path} was not."
            )
        run = self._model.signatures[signature]

        def answers_to(batch, languages):
            inputs = {self.input_name: batch} | self._language_input(languages)
            outputs = run(**{name: tf.constant(rows, tf.string) for name, rows in inputs.items()})
            outputs = {name: tensor.numpy() for name, tensor in outputs.items()}
            return [
                answer({name: values[row] for name, values in outputs.items()})
                for row in range(len(batch))
            ]

        try:
            answers = batching.map_by_length(answers_to, given, self.batch_size, languages)
        except ops.REFUSALS:
            for content, name, code in zip(given, asked, languages, strict=True):  # which is it?
                _explained(lambda: answers_to([content], [code]), name)  # noqa: B023 (called now)
            raise
        return answers[0] if is_one else answers


def _content_of(signatures, path):
    """What the signatures of a SavedModel read; raises ValueError unless they are kzoo's."""
    began = f"`path` must hold a SavedModel that kzoo exported, but {str(path)!r} has"
    if "serving_default" not in signatures:
        missing = {"serving_default", "n_best", "align"} - set(signatures)
        raise ValueError(f"{began} no signature {', '.join(sorted(missing))}.")
    for name, outputs in _OUTPUTS.items():
        if name not in signatures:
            continue
        given = _inputs(signatures[name])
        given.pop(contents.LANGUAGE, None)
        is_text = [(spec.dtype, spec.shape.rank) for spec in given.values()] == [(tf.string, 1)]
        if not is_text or not set(given) <= set(contents.OF_INPUT):
            raise ValueError(
                f"{began} the inputs {[*given.values()]} of {name}, where it must be one string "
                f"[N] named {' or '.join(contents.OF_INPUT)}."
            )
        if missing := outputs - set(signatures[name].structured_outputs):
            raise ValueError(f"{began} no output {', '.join(sorted(missing))} of {name}.")
    (name,) = {*_inputs(signatures["serving_default"])} - {contents.LANGUAGE}
    return contents.OF_INPUT[name]


def _inputs(signature):
    """The TensorSpecs of a signature's inputs by name."""
    return dict(signature.structured_input_signature[1])


def _state_of(outputs):
    return {name: outputs[name] for name in outputs if name not in NOT_STATE}


def _explained(answer, name):
    """What `answer` gives, or a ValueError that says why the content `name` was refused."""
    try:
        return answer()
    except ops.REFUSALS as error:
        name = f"{len(name)} bytes" if isinstance(name, bytes) else str(name)
        raise ValueError(f"{name} was refused: {reason(error)}") from None


def reason(error):
    """What an error of TensorFlow's, or one of `ops.REFUSALS`, says of an input."""
    if isinstance(error, UnicodeDecodeError):
        return rule(error.object.decode("utf-8", "replace"))
    return rule(str(error.message))


def rule(message):
    """What TensorFlow says of an input: one line among traces, brackets and the names of nodes."""
    before = message.split("[[{{")[0].strip() or message
    if asserted := re.search(r"assertion failed: \[(.*)\]", before):
        return asserted[1].replace("] [", " ")
    said = before.splitlines()[-1]
    return re.sub(r"\{\{function_node [^}]*\}\}|\[Op:[^\]]*\]", "", said).strip()


def _unpadded(tokens):
    """Without the "" at the end; one in the middle is an answer of the model."""
    used = np.flatnonzero(tokens != b"")
    return [token.decode() for token in tokens[: used[-1] + 1 if used.size else 0]]
