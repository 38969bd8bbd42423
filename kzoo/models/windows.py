"""One window of speech: what is said there, whether anybody speaks, whether it is believed.

Radford et al. (2022), https://arxiv.org/abs/2212.04356, section 4.5, and its published decoding.

Axis letters: B windows, S frames, F features, L longest output.
"""

import dataclasses
from typing import NamedTuple

import tensorflow as tf

from kzoo import checks
from kzoo.layers.positions import LearnedPositions
from kzoo.models.prompts import after_prompt, prompt_rows
from kzoo.search import Times

# Options of a search that drawing heeds, too.
_OF_DRAWING = (
    *("max_length", "min_length", "no_repeat_ngram", "repetition_penalty", "allowed", "times"),
    "renormalize",
)
NO_TIMES = "<|notimestamps|>"
NO_SPEECH = ("<|nospeech|>", "<|nocaptions|>")


@dataclasses.dataclass(frozen=True)
class Doubts:
    """When an answer is not believed.

    The defaults are those of Whisper's published decoding, whose first temperature, 0, is the
    search here.

    A window has no words if nobody speaks there with a probability above `no_speech_threshold` and
    the mean log p of its tokens is below `log_prob_threshold`; or with one above
    `surely_no_speech_threshold`. Any other answer with a mean log p below `log_prob_threshold`, or
    whose pairs of text tokens occur more than `repetition_threshold` times on average, is drawn
    anew at the first of the `temperatures`, then at the next, until one is believed or they have
    run out.

    Attributes:
        no_speech_threshold: float in [0, 1]; 1 for never.
        surely_no_speech_threshold: float in [0, 1]; 1 for never. It is ours: `tiny.en` says "you"
            to silence, with a probability of no speech of 0.95.
        log_prob_threshold: float, at most 0; -inf for never. See `mean_log_probs`.
        repetition_threshold: float, at least 1; inf for never. It stands in the place of the
            published ratio of gzip.
        temperatures: tuple of floats > 0; () for what the search has found, whatever it is.

    Raises:
        ValueError: one of them breaks its rule.
    """

    no_speech_threshold: float = 0.6
    surely_no_speech_threshold: float = 0.9
    log_prob_threshold: float = -1.0
    repetition_threshold: float = 2.4
    temperatures: tuple = (0.2, 0.4, 0.6, 0.8, 1.0)

    def __post_init__(self):
        checks.fraction(
            no_speech_threshold=self.no_speech_threshold,
            surely_no_speech_threshold=self.surely_no_speech_threshold,
        )
        checks.require(
            self.log_prob_threshold <= 0,
            "must be at most 0",
            log_prob_threshold=self.log_prob_threshold,
        )
        checks.at_least(1, repetition_threshold=self.repetition_threshold)
        for temperature in self.temperatures:
            checks.finite_positive(temperature=temperature)


class Signs(NamedTuple):
    """The special tokens of a model that hears windows."""

    times: Times
    no_speech_id: int | None  # None where the vocabulary has none


def signs_of(model):
    """The special tokens of a model that `transcribe` takes; None for any other model, an Ensemble
    among them, whose decoders do not look at one memory."""
    is_one = not hasattr(model, "models")
    if not (is_one and hasattr(getattr(model, "decoder", None), "head_weights")):
        return None
    tokenizer = getattr(model, "target_tokenizer", None)
    features = getattr(getattr(model, "source_tokenizer", None), "features", None)
    if not getattr(features, "is_filled", False) or not hasattr(tokenizer, "first_special"):
        return None
    names = tokenizer.get_vocabulary()[tokenizer.first_special :]
    special = {name: id_ for id_, name in enumerate(names, start=tokenizer.first_special)}
    if names[-1:] == [NO_TIMES] or NO_TIMES not in special:
        return None
    no_speech = [special[name] for name in NO_SPEECH if name in special]
    return Signs(Times(special[NO_TIMES] + 1), no_speech[0] if no_speech else None)


def check_room(model, prompt, max_length):
    """Raises ValueError unless the decoder has positions for a prompt and the longest answer."""
    positions = getattr(model.decoder, "positions", None)
    if isinstance(positions, LearnedPositions):
        most = positions.max_length - len(prompt)
        message = f"must be at most {most}, as the model has positions for {positions.max_length} "
        message += f"tokens, of which its prompt takes {len(prompt)}"
        checks.require(max_length <= most, message, max_length=max_length)


def heard(model, source, prompt, signs, max_length):
    """Encodes a window once, and reads the prompt.

    Args:
        model: Seq2Seq. source: (B, S, F), dense or ragged. prompt: tuple of ids. signs: Signs.
        max_length: int, most tokens of an answer.

    Returns:
        start: `SearchStart` behind the prompt, for `generate` and `sample`. no_speech: (B,)
        float32, the probability that nobody speaks, which the model gives behind the start; 0 if
        the vocabulary has no token for it.
    """
    may_grow = not tf.executing_eagerly()
    start = model.search_step(source, None if may_grow else max_length + len(prompt), prompt=())
    first = start.step(start.start_ids, start.state, tf.constant(0))
    logits, *_, state = first
    rows = tf.shape(start.start_ids)[0]
    no_speech = tf.zeros([rows])
    if signs.no_speech_id is not None:
        no_speech = tf.nn.softmax(tf.cast(logits, tf.float32))[:, signs.no_speech_id]

    def step(ids, state, position):
        if tf.get_static_value(position) == 0:  # known; in a loop a position has no static value
            return first
        return start.step(ids, state, position)

    if not prompt:
        return start._replace(step=step), no_speech
    ids, rest = tf.fill([rows], prompt[0]), prompt_rows(prompt[1:], rows)
    step, state, ids = after_prompt(
        lambda ids, state, position: start.step(ids, state, position + 1), state, ids, rest
    )
    return start._replace(step=step, state=state, start_ids=ids), no_speech


class Answer(NamedTuple):
    """The best answer to each window."""

    ids: tf.Tensor  # (B, L) int32, without the end, padded with 0
    lengths: tf.Tensor  # (B,) int32
    log_probs: tf.Tensor  # (B,) float32: mean log p of the tokens, the end included
    no_speech: tf.Tensor  # (B,) float32: the probability that nobody speaks


def answer_to_window(model, source, prompt, signs, doubts, seed, options):
    """The best answer to each window, drawn anew where it is not believed.

    Args:
        model, source, prompt, signs: as in `heard`. doubts: Doubts.
        seed: int or int32 scalar, of what is drawn.
        options: dict of `generate`; with `times` the answers hold times.

    Returns:
        Answer; also of what is silent. memory: (B, S', D), of the encoder.
    """
    options = {"renormalize": True} | options
    start, no_speech = heard(model, source, prompt, signs, options["max_length"])

    def best(found):
        ids, lengths = found.ids[:, 0], found.lengths[:, 0]
        mean = mean_log_probs(found, options["max_length"])
        ids = tf.where(tf.range(tf.shape(ids)[1]) < lengths[:, None], ids, 0)
        return Answer(tf.ensure_shape(ids, [None, options["max_length"]]), lengths, mean, no_speech)

    first = best(model.generate(source, start=start, best_only=True, **options))
    if not doubts.temperatures:
        return first, start.memory
    temperatures = tf.constant(doubts.temperatures, tf.float32)
    drawing = {name: value for name, value in options.items() if name in _OF_DRAWING}

    def doubted(answer):
        is_odd = answer.log_probs < doubts.log_prob_threshold
        texts = tf.ragged.boolean_mask(answer.ids, is_text(answer.ids, signs))
        lengths = tf.cast(texts.row_lengths(), tf.int32)
        is_odd |= repetition(texts.to_tensor(), lengths) > doubts.repetition_threshold
        return is_odd & ~is_silent(answer.log_probs, answer.no_speech, doubts)

    def draw(attempt, answer):
        drawn = best(
            model.sample(
                source, start=start, temperature=temperatures[attempt],
                seed=seed * len(doubts.temperatures) + attempt, same_for_rows=True, **drawing,
            )
        )  # fmt: skip
        is_new = doubted(answer)
        ids = tf.where(is_new[:, None], drawn.ids, answer.ids)
        lengths = tf.where(is_new, drawn.lengths, answer.lengths)
        mean = tf.where(is_new, drawn.log_probs, answer.log_probs)
        return attempt + 1, Answer(ids, lengths, mean, no_speech)

    _, last = tf.while_loop(
        lambda attempt, answer: (attempt < len(doubts.temperatures))
        & tf.reduce_any(doubted(answer)),
        draw, (tf.constant(0), first),
    )  # fmt: skip
    return last, start.memory


def is_text(ids, signs):
    """(B, L) bool: neither padding nor a time."""
    return (ids > 0) & (ids < signs.times.first_id)


def mean_log_probs(found, max_length):
    """(B,) float32: mean log p of the tokens of the best hypotheses, with the end if there is one.

    With `renormalize`, log p is a log-softmax over what the rules of times and suppressed tokens
    leave, as in OpenAI's code at all temperatures and in `generate` of transformers without beams.
    OpenAI divides the sum by one token more where an answer of `max_length` tokens has no end,
    transformers does not; and transformers doubts its beams by their score, where a softmax over
    all tokens and the length penalty are in.

    Args:
        found: SearchResult. max_length: int, a hypothesis of so many tokens has no end.
    """
    lengths = found.lengths[:, 0]
    tokens = lengths + tf.cast(lengths < max_length, tf.int32)
    return found.log_probs[:, 0] / tf.cast(tf.maximum(tokens, 1), tf.float32)


def is_silent(log_probs, no_speech, doubts):
    """(B,) bool: nobody speaks, see `Doubts`.

    Args:
        log_probs: (B,) float32, from `mean_log_probs`. no_speech: (B,) float32, from `heard`.
    """
    is_likely = no_speech > doubts.no_speech_threshold
    is_likely &= log_probs < doubts.log_prob_threshold
    return is_likely | (no_speech > doubts.surely_no_speech_threshold)


def repetition(ids, lengths):
    """How often each pair of neighbouring tokens occurs on average: 1 if none comes twice.

    Args:
        ids: (B, L) int32. lengths: (B,) int32.

    Returns:
        (B,) float32; 1 for less than two tokens.
    """
    first, second = ids[:, :-1], ids[:, 1:]
    is_pair = tf.range(tf.shape(first)[1]) < lengths[:, None] - 1
    same = (first[:, :, None] == first[:, None]) & (second[:, :, None] == second[:, None])
    earlier = tf.linalg.band_part(tf.ones(tf.shape(same)[1:], tf.int32), -1, 0)
    earlier = tf.linalg.set_diag(earlier, tf.zeros([tf.shape(first)[1]], tf.int32)) > 0
    is_new = is_pair & ~tf.reduce_any(same & earlier, 2)
    pairs, new = (tf.reduce_sum(tf.cast(each, tf.float32), 1) for each in (is_pair, is_new))
    return tf.where(new > 0, tf.math.divide_no_nan(pairs, new), 1.0)
