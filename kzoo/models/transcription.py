"""Speech of any length with a model that hears one window at a time, as Whisper does.

    transcript = transcribe(model, samples)    # in the graph; `segments` makes texts of it

Radford et al. (2022), https://arxiv.org/abs/2212.04356, sections 3.8 and 4.5: a window of 30 s is
transcribed with times; the next one begins where the last part ended that is whole.

Axis letters: B recordings, L longest output, W windows, S frames, F features.
"""

from typing import NamedTuple

import tensorflow as tf

from kzoo import checks
from kzoo.models.prompts import after_prompt, prompt_rows
from kzoo.models.word_times import token_steps
from kzoo.search import Times

# Options of a search that drawing heeds, too.
_OF_DRAWING = ("max_length", "min_length", "no_repeat_ngram", "repetition_penalty", "allowed")
FRAMES = 2  # of a step of time, 0.02 s
NO_TIMES = "<|notimestamps|>"
NO_SPEECH = ("<|nospeech|>", "<|nocaptions|>")


class Doubts(NamedTuple):
    """When an answer is not believed.

    `no_speech`, `log_prob` and `temperatures` have the defaults of Whisper's published decoding,
    whose first temperature, 0, is the search here.

    A window has no words if nobody speaks there with a probability above `no_speech` and the mean
    log p of its tokens is below `log_prob`; or with one above `surely_no_speech` (which is ours:
    `tiny.en` says "you" to silence, with 0.95). Any other answer with a mean log p below
    `log_prob`, or whose pairs of text tokens occur more than `repetition` times on average (in the
    place of the published ratio of gzip), is drawn anew at the first of the `temperatures`, then at
    the next, until one is believed or they have run out.
    """

    no_speech: float = 0.6
    surely_no_speech: float = 0.9
    log_prob: float = -1.0
    repetition: float = 2.4
    temperatures: tuple = (0.2, 0.4, 0.6, 0.8, 1.0)


class Transcript(NamedTuple):
    """What was said in each window of a recording; padding is 0."""

    ids: tf.Tensor  # (B, W, L) int32: texts and times, without the end
    # (B, W, L) int32: which part between two times a token is in, -1 for none
    parts: tf.Tensor
    token_begins: tf.Tensor  # (B, W, L) int32: the frame of its window where a token begins
    token_ends: tf.Tensor  # (B, W, L) int32: where the next one begins
    begins: tf.Tensor  # (B, W) int32: the first frame of each window
    sizes: tf.Tensor  # (B, W) int32: frames of each window, 0 behind the last one
    log_probs: tf.Tensor  # (B, W) float32: mean log p of the tokens, the end included
    no_speech: tf.Tensor  # (B, W) float32: the probability that nobody speaks


class Signs(NamedTuple):
    """The special tokens of a model that hears windows."""

    times: Times
    no_speech_id: int | None  # None where the vocabulary has none


def signs_of(model):
    """The special tokens of a model that `transcribe` takes; None for any other model."""
    if not hasattr(getattr(model, "decoder", None), "head_weights"):
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


def heard(model, source, prompt, signs, max_length):
    """Encodes a window once, and reads the prompt.

    Args:
        model: Seq2Seq. source: (B, S, F), dense or ragged. prompt: tuple of ids. signs: Signs.
        max_length: int, most tokens of an answer.

    Returns:
        start: `SearchStart` behind the prompt, for `generate` and `sample`. no_speech: (B,)
        float32, the probability that nobody speaks; 0 if the vocabulary has no token for it.
    """
    may_grow = not tf.executing_eagerly()
    start = model.search_step(source, None if may_grow else max_length + len(prompt), prompt=())
    rows = tf.shape(start.start_ids)[0]
    no_speech = tf.zeros([rows])
    if signs.no_speech_id is not None:
        logits = start.step(start.start_ids, start.state, tf.constant(0))[0]
        no_speech = tf.nn.softmax(tf.cast(logits, tf.float32))[:, signs.no_speech_id]
    prompt = prompt_rows(prompt, rows)
    step, state, ids = after_prompt(start.step, start.state, start.start_ids, prompt)
    return start._replace(step=step, state=state, start_ids=ids), no_speech


def transcribe(
    model,
    samples,
    lengths=None,
    *,
    beam_size=1,
    max_length=224,
    length_penalty=0.6,
    doubts=None,
    seed=0,
    word_times=True,
    prompt=None,
    **options,
):
    """Transcribes recordings of any length with times, one window after the other.

    The frames of a recording are scaled by its loudest one; a last window of less than 30 s is
    filled up with zeros. Recordings of a batch do not change each other's results.

    Args:
        model: Seq2Seq for which `signs_of` is not None.
        samples: (B, N) float in [-1, 1], dense or ragged. lengths: (B,) int, or None for all.
        beam_size, max_length, length_penalty: as in `generate`, for each window.
        doubts: Doubts; None for the defaults.
        seed: int, of what is drawn.
        prompt: tuple of ids, as in `generate`, without `<|notimestamps|>`; None for the model's.
        word_times: bool, whether to find out when each token was said; else that is 0.
        **options: further ones of `generate`.

    Returns:
        Transcript.

    Raises:
        ValueError: the model is not of this kind, or a temperature is not positive.
    """
    signs = signs_of(model)
    if signs is None:
        raise ValueError(
            "`model` must hear filled windows and have times among its tokens, as those of "
            f"pretrained.load('whisper-tiny.en'), got {type(model).__name__} without."
        )
    doubts = doubts or Doubts()
    for temperature in doubts.temperatures:
        checks.finite_positive(temperature=temperature)
    features = model.source_tokenizer.features
    frames, counts = features.whole(samples, lengths)
    size = features.num_frames
    frames = tf.pad(frames, [[0, 0], [0, size], [0, 0]])
    prompt = tuple(model.prompt if prompt is None else prompt)
    prompt = tuple(id_ for id_ in prompt if id_ != signs.times.first_id - 1)
    options |= {"max_length": max_length, "beam_size": beam_size, "length_penalty": length_penalty}

    def hear(rows, begins, spans, window):
        steps = tf.range(size)
        places = begins[:, None] + steps
        source = tf.gather_nd(frames, tf.stack([0 * steps + rows[:, None], places], 2))
        source = tf.where((steps < spans[:, None])[:, :, None], source, 0.0)
        answer, memory = _answer(model, source, prompt, signs, doubts, seed + window, options)
        parts, advance = closed_parts(answer.ids, answer.lengths, spans, signs.times.first_id)
        silent = is_silent(answer.log_probs, answer.no_speech, doubts) | (spans == 0)
        ids = tf.where(silent[:, None], 0, answer.ids)
        parts = tf.where(silent[:, None], -1, parts)
        advance = tf.where(silent, spans, advance)
        times = (tf.zeros_like(ids),) * 2
        if word_times:
            times = _token_frames(model, memory, ids, spans, prompt, signs)
        return ids, parts, *times, answer.log_probs, answer.no_speech, advance

    def body(window, begins, found):
        # The first window of all, also of what has no sample: layers want at least a row.
        rows = tf.cast(tf.where((begins < counts) | (window == 0))[:, 0], tf.int32)
        at = tf.gather(begins, rows)
        spans = tf.minimum(tf.gather(counts, rows) - at, size)
        *heard_, advance = hear(rows, at, spans, window)
        values = (*heard_[:4], at, spans, *heard_[4:])
        found = tuple(
            array.write(window, _spread(rows, value, tf.shape(counts)[0]))
            for array, value in zip(found, values, strict=True)
        )
        begins = tf.tensor_scatter_nd_add(begins, rows[:, None], tf.maximum(advance, FRAMES))
        return window + 1, begins, found

    floats = ("log_probs", "no_speech")
    shapes = {name: [None, max_length] for name in Transcript._fields[:4]}
    found = tuple(
        tf.TensorArray(
            tf.float32 if name in floats else tf.int32, 1, dynamic_size=True,
            clear_after_read=False, element_shape=shapes.get(name, [None]),
        )
        for name in Transcript._fields
    )  # fmt: skip
    begins = tf.zeros_like(counts)
    *_, found = tf.while_loop(
        lambda window, begins, found: tf.reduce_any(begins < counts) | (window == 0),
        body, (tf.constant(0), begins, found),
    )  # fmt: skip
    return Transcript(*map(_by_row, found))


def _by_row(array):
    """A TensorArray of W tensors (B, ...) -> (B, W, ...)."""
    stacked = array.stack()
    return tf.transpose(stacked, [1, 0, *range(2, stacked.shape.rank)])


def _spread(rows, values, count):
    """Values of some rows -> of all, 0 elsewhere."""
    shape = tf.concat([[count], tf.shape(values)[1:]], 0)
    return tf.ensure_shape(tf.scatter_nd(rows[:, None], values, shape), [None, *values.shape[1:]])


class _Answer(NamedTuple):
    """The best answer to each window."""

    ids: tf.Tensor  # (B, L) int32, without the end
    lengths: tf.Tensor  # (B,) int32
    log_probs: tf.Tensor  # (B,) float32: mean log p of the tokens, the end included
    no_speech: tf.Tensor  # (B,) float32


def _answer(model, source, prompt, signs, doubts, seed, options):
    """The best answer to each window, drawn anew where it is not believed; and the memory."""
    start, no_speech = heard(model, source, prompt, signs, options["max_length"])

    def answer(found):
        ids, lengths = found.ids[:, 0], found.lengths[:, 0]
        mean = mean_log_probs(found, options["max_length"])
        ids = tf.where(tf.range(tf.shape(ids)[1]) < lengths[:, None], ids, 0)
        ids = tf.ensure_shape(ids, [None, options["max_length"]])
        return _Answer(ids, lengths, mean, no_speech)

    first = answer(
        model.generate(source, start=start, times=signs.times, best_only=True, **options)
    )
    if not doubts.temperatures:
        return first, start.memory
    temperatures = tf.constant(doubts.temperatures, tf.float32)
    drawing = {name: value for name, value in options.items() if name in _OF_DRAWING}

    def doubted(answer):
        is_odd = answer.log_probs < doubts.log_prob
        texts = tf.ragged.boolean_mask(answer.ids, _is_text(answer.ids, signs))
        lengths = tf.cast(texts.row_lengths(), tf.int32)
        is_odd |= repetition(texts.to_tensor(), lengths) > doubts.repetition
        return is_odd & ~is_silent(answer.log_probs, answer.no_speech, doubts)

    def draw(attempt, answer_):
        drawn = answer(
            model.sample(
                source, start=start, times=signs.times, temperature=temperatures[attempt],
                seed=seed * len(doubts.temperatures) + attempt, same_for_rows=True, **drawing,
            )
        )  # fmt: skip
        is_new = doubted(answer_)
        ids = tf.where(is_new[:, None], drawn.ids, answer_.ids)
        lengths = tf.where(is_new, drawn.lengths, answer_.lengths)
        mean = tf.where(is_new, drawn.log_probs, answer_.log_probs)
        return attempt + 1, _Answer(ids, lengths, mean, no_speech)

    _, last = tf.while_loop(
        lambda attempt, answer_: (attempt < len(doubts.temperatures))
        & tf.reduce_any(doubted(answer_)),
        draw, (tf.constant(0), first),
    )  # fmt: skip
    return last, start.memory


def _is_text(ids, signs):
    """(B, L) bool: neither padding nor a time."""
    return (ids > 0) & (ids < signs.times.first_id)


def mean_log_probs(found, max_length):
    """(B,) float32: mean log p of the tokens of the best hypotheses, with the end if there is one.

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
    is_likely = (no_speech > doubts.no_speech) & (log_probs < doubts.log_prob)
    return is_likely | (no_speech > doubts.surely_no_speech)


def _token_frames(model, memory, ids, spans, prompt, signs):
    """Where each text token of an answer begins and ends: two of (B, L) int32, frames.

    The decoder reads the text once more, without times, as the heads have seen it in training.
    """
    is_text = _is_text(ids, signs)
    texts = tf.ragged.boolean_mask(ids, is_text)
    counts = tf.cast(texts.row_lengths(), tf.int32)
    texts = texts.to_tensor()
    rows = tf.shape(ids)[0]
    before = tf.constant([model.start_id, *prompt, signs.times.first_id - 1])
    read = tf.concat([tf.repeat(before[None], rows, axis=0), texts], 1)
    # The last id of the prompt predicts the first token, the last token the end.
    weights = model.decoder.head_weights(read, memory)[:, :, tf.size(before) - 1 :]
    steps = tf.maximum(spans // FRAMES, 1)
    firsts = FRAMES * token_steps(weights, counts + 1, steps)
    place = tf.cumsum(tf.cast(is_text, tf.int32), axis=1, exclusive=True)
    last = tf.shape(firsts)[1] - 1
    begins, ends = (tf.gather(firsts, tf.minimum(place + n, last), batch_dims=1) for n in (0, 1))
    return tf.where(is_text, begins, 0), tf.where(is_text, ends, 0)


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


def closed_parts(ids, lengths, spans, first_time):
    """Cuts the answer to a window at its pairs of times.

    What stands behind the last pair has no end yet, and is heard again in the next window, which
    begins there. Without a pair, or with a time at the very end, the whole window is over.

    Args:
        ids: (B, L) int32, texts and times. lengths: (B,) int32.
        spans: (B,) int32, frames of the window. first_time: int, the id of the time 0.

    Returns:
        parts: (B, L) int32, the part that each token is in, from 0 on; -1 for none. advance: (B,)
        int32, frames from this window to the next.
    """
    places = tf.range(tf.shape(ids)[1])
    is_token = places < lengths[:, None]
    is_time = (ids >= first_time) & is_token
    before = tf.pad(is_time[:, :-1], [[0, 0], [1, 0]])
    is_cut = is_time & before
    is_last = places == lengths[:, None] - 1
    ends_there = tf.reduce_any(is_last & is_time & ~before & (lengths > 1)[:, None], 1)
    cuts = tf.reduce_sum(tf.cast(is_cut, tf.int32), 1)
    closed = tf.where(cuts > 0, cuts + tf.cast(ends_there, tf.int32), 1)
    parts = tf.cumsum(tf.cast(is_cut, tf.int32), axis=1)
    parts = tf.where(is_token & (parts < closed[:, None]), parts, -1)
    # A part ends with the first time of a pair, the token before the cut.
    before_cut = tf.pad(is_cut[:, 1:], [[0, 0], [0, 1]])
    last_time = tf.reduce_max(tf.where(before_cut, ids, first_time), 1) - first_time
    advance = tf.where((cuts > 0) & ~ends_there, FRAMES * last_time, spans)
    return parts, tf.minimum(advance, spans)
