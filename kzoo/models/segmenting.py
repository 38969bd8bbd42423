"""The parts and words of transcribed recordings, and when each was said.

    found = segments(transcribe(model, samples), model)

Axis letters: B recordings, L longest output, W windows, G segments, M words.
"""

from typing import NamedTuple

import tensorflow as tf

from kzoo.models.transcription import FRAMES
from kzoo.models.windows import signs_of


class Segments(NamedTuple):
    """Parts of a recording that have words; padding is "" and 0."""

    texts: tf.Tensor  # (B,) string, the whole
    parts: tf.Tensor  # (B, G) string
    begins: tf.Tensor  # (B, G) float32, seconds
    ends: tf.Tensor  # (B, G) float32, seconds
    no_speech: tf.Tensor  # (B, G) float32
    word_counts: tf.Tensor  # (B, G) int32, the words of each part
    words: tf.Tensor  # (B, M) string, the words of all parts
    word_begins: tf.Tensor  # (B, M) float32, seconds
    word_ends: tf.Tensor  # (B, M) float32, seconds


def segments(transcript, model):
    """The parts of recordings that have words, with their times.

    Args:
        transcript: Transcript. model: Seq2Seq that gave it.

    Returns:
        Segments. A time behind the end of the recording becomes that end.
    """
    tokenizer, first_time = model.target_tokenizer, signs_of(model).times.first_id
    frame_seconds = model.source_tokenizer.features.hop_seconds
    ids, parts = transcript.ids, transcript.parts
    rows, windows, longest = tf.unstack(tf.shape(ids))
    slots = longest // 2 + 1  # most parts of a window
    index = tf.reshape(tf.range(rows * windows), [rows, windows, 1]) * slots + parts
    is_time = ids >= first_time
    is_part = parts >= 0
    count = rows * windows * slots

    times = tf.boolean_mask(ids, is_time & is_part) - first_time
    places = tf.boolean_mask(index, is_time & is_part)
    has_times = tf.math.unsorted_segment_sum(tf.ones_like(times), places, count) > 0
    begins, ends = (
        tf.where(has_times, FRAMES * combine(times, places, count), 0)
        for combine in (tf.math.unsorted_segment_min, tf.math.unsorted_segment_max)
    )

    def of_window(values):
        return tf.repeat(tf.reshape(values, [-1]), slots)

    sizes = of_window(transcript.sizes)  # the last one may be short: nothing is said behind it
    ends = tf.where(ends > begins, ends, sizes)
    is_behind = begins >= sizes  # it is said in the zeros behind the recording: nobody said it
    begins, ends = (
        tf.cast(of_window(transcript.begins) + tf.minimum(each, sizes), tf.float32) * frame_seconds
        for each in (begins, ends)
    )
    is_text = is_part & ~is_time & (ids != 0) & ~tf.gather(is_behind, tf.maximum(index, 0))
    tokens = tf.boolean_mask(ids, is_text)
    texts = tokenizer.detokenize(
        tf.RaggedTensor.from_value_rowids(tokens, tf.boolean_mask(index, is_text), count)
    )
    row = tf.broadcast_to(tf.range(rows)[:, None, None], tf.shape(ids))
    whole = tokenizer.detokenize(
        tf.RaggedTensor.from_value_rowids(tokens, tf.boolean_mask(row, is_text), rows)
    )
    has_words = texts != ""
    of_rows = tf.repeat(tf.range(rows), windows * slots)

    def chosen(values, has_words=has_words, of_rows=of_rows):
        ragged = tf.RaggedTensor.from_value_rowids(
            tf.boolean_mask(values, has_words), tf.boolean_mask(of_rows, has_words), rows
        )
        return ragged.to_tensor()

    words, begin, end, places = _words(transcript, tokenizer, is_text, index)
    is_word = words != ""
    counts = tf.math.unsorted_segment_sum(tf.cast(is_word, tf.int32), places, count)
    values = (words, *(tf.cast(each, tf.float32) * frame_seconds for each in (begin, end)))
    word_rows = places // (windows * slots)
    return Segments(
        whole,
        *map(chosen, (texts, begins, ends, of_window(transcript.no_speech), counts)),
        *(chosen(each, is_word, word_rows) for each in values),
    )


def _words(transcript, tokenizer, is_text, index):
    """The words of all parts (M,), the frames where they begin and end, the index of their part.

    A word begins with a space; in languages without spaces with each token that begins a
    character.
    """
    tokens = tf.boolean_mask(transcript.ids, is_text)
    first = tf.io.decode_raw(tokenizer.bytes_of(tokens), tf.uint8, fixed_length=1)[:, 0]
    begins_word = first == ord(" ") if tokenizer.leading_space else first & 0xC0 != 0x80
    index = tf.boolean_mask(index, is_text)
    is_new_part = tf.concat([[True], index[1:] != index[:-1]], 0)[: tf.size(index)]
    number = tf.cumsum(tf.cast(begins_word | is_new_part, tf.int32)) - 1
    count = tf.reduce_max(tf.concat([number, [-1]], 0)) + 1
    texts = tokenizer.detokenize(tf.RaggedTensor.from_value_rowids(tokens, number, count))
    offset = tf.boolean_mask(
        tf.broadcast_to(transcript.begins[:, :, None], tf.shape(is_text)), is_text
    )
    begin, end = (
        tf.boolean_mask(each, is_text) + offset
        for each in (transcript.token_begins, transcript.token_ends)
    )
    return (
        texts,
        tf.math.segment_min(begin, number),
        tf.math.segment_max(end, number),
        tf.math.segment_min(index, number),
    )
