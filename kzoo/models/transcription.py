"""Speech of any length with a model that hears one window at a time, as Whisper does.

    transcript = transcribe(model, samples)    # in the graph; `segments` makes texts of it

Radford et al. (2022), https://arxiv.org/abs/2212.04356, sections 3.8 and 4.5: a window of 30 s is
transcribed with times; the next one begins where the last part ended that is whole.

Axis letters: B recordings, L longest output, W windows, S frames, F features.
"""

from typing import NamedTuple

import tensorflow as tf

from kzoo.models.windows import (
    Doubts,
    answer_to_window,
    check_room,
    is_silent,
    is_text,
    signs_of,
)
from kzoo.models.word_times import token_steps

FRAMES = 2  # of a step of time, 0.02 s
_SLOW_WINDOWS = 10  # that may advance little, before a recording has to keep up


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

    A recording has at most 11 windows more than it has tenths of a window (3 s): where a window
    begins earlier than 3 s (w - 10) after w windows, it is over as a whole, whatever its times say.
    Speech does not come to that; the published decoding has no bound, and may advance by 0.02 s.

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
        ValueError: the model is not of this kind, or has no positions for so long an answer.
    """
    signs = signs_of(model)
    if signs is None:
        raise ValueError(
            "`model` must hear filled windows and have times among its tokens, as those of "
            f"pretrained.load('whisper-tiny.en'), got {type(model).__name__} without."
        )
    doubts = doubts or Doubts()
    features = model.source_tokenizer.features
    frames, counts = features.whole(samples, lengths)
    size = features.num_frames
    frames = tf.pad(frames, [[0, 0], [0, size], [0, 0]])
    prompt = tuple(model.prompt if prompt is None else prompt)
    prompt = tuple(id_ for id_ in prompt if id_ != signs.times.first_id - 1)
    check_room(model, prompt, max_length)
    options |= {
        "max_length": max_length, "beam_size": beam_size, "length_penalty": length_penalty,
        "times": signs.times,
    }  # fmt: skip

    def hear(rows, begins, spans, window):
        steps = tf.range(size)
        places = begins[:, None] + steps
        source = tf.gather_nd(frames, tf.stack([0 * steps + rows[:, None], places], 2))
        source = tf.where((steps < spans[:, None])[:, :, None], source, 0.0)
        answer, memory = answer_to_window(
            model, source, prompt, signs, doubts, seed + window, options
        )
        is_late = begins < (window - _SLOW_WINDOWS) * (size // 10)
        parts, advance = closed_parts(
            answer.ids, answer.lengths, spans, signs.times.first_id, is_late
        )
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


def _token_frames(model, memory, ids, spans, prompt, signs):
    """Where each text token of an answer begins and ends: two of (B, L) int32, frames.

    The decoder reads the text once more, without times, as the heads have seen it in training.
    """
    is_said = is_text(ids, signs)
    texts = tf.ragged.boolean_mask(ids, is_said)
    counts = tf.cast(texts.row_lengths(), tf.int32)
    texts = texts.to_tensor()
    rows = tf.shape(ids)[0]
    before = tf.constant([model.start_id, *prompt, signs.times.first_id - 1])
    read = tf.concat([tf.repeat(before[None], rows, axis=0), texts], 1)
    # The last id of the prompt predicts the first token, the last token the end.
    weights = model.decoder.head_weights(read, memory)[:, :, tf.size(before) - 1 :]
    steps = tf.maximum(spans // FRAMES, 1)
    firsts = FRAMES * token_steps(weights, counts + 1, steps)
    place = tf.cumsum(tf.cast(is_said, tf.int32), axis=1, exclusive=True)
    last = tf.shape(firsts)[1] - 1
    begins, ends = (tf.gather(firsts, tf.minimum(place + n, last), batch_dims=1) for n in (0, 1))
    return tf.where(is_said, begins, 0), tf.where(is_said, ends, 0)


def closed_parts(ids, lengths, spans, first_time, is_over=False):
    """Cuts the answer to a window at its pairs of times.

    What stands behind the last pair has no end yet, and is heard again in the next window, which
    begins there. Without a pair, or with a time at the very end, the whole window is over.

    Args:
        ids: (B, L) int32, texts and times. lengths: (B,) int32.
        spans: (B,) int32, frames of the window. first_time: int, the id of the time 0.
        is_over: (B,) bool, whether the whole window is over in any case.

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
    ends_there = tf.reduce_any(is_last & is_time & ~before & (lengths > 1)[:, None], 1) | is_over
    cuts = tf.reduce_sum(tf.cast(is_cut, tf.int32), 1)
    closed = tf.where(cuts > 0, cuts + tf.cast(ends_there, tf.int32), 1)
    parts = tf.cumsum(tf.cast(is_cut, tf.int32), axis=1)
    parts = tf.where(is_token & (parts < closed[:, None]), parts, -1)
    # A part ends with the first time of a pair, the token before the cut.
    before_cut = tf.pad(is_cut[:, 1:], [[0, 0], [0, 1]])
    last_time = tf.reduce_max(tf.where(before_cut, ids, first_time), 1) - first_time
    advance = tf.where((cuts > 0) & ~ends_there, FRAMES * last_time, spans)
    return parts, tf.minimum(advance, spans)
