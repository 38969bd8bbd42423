"""Recordings of any length, for models that hear one window at a time, as Whisper does.

Axis letters: N contents, G segments of the longest answer.
"""

import tensorflow as tf

from kzoo.models.parts import segments
from kzoo.models.transcription import transcribe


def of_recordings(search):
    """The functions of contents (N,) behind `serving_default` and `segments`.

    A recording that fits into a window is searched as by every other signature; a longer one is
    transcribed window by window, with times. Neither changes what the others of a batch get.

    Args:
        search: signatures.Search of a model with `signs`.

    Returns:
        serving_default, segments: functions to dicts of tensors.
    """
    model, options = search.model, search.options
    reader = model.source_tokenizer
    longest = reader.features.num_frames * reader.features.hop

    def whole(samples, lengths, word_times):
        """Scores and Segments of recordings, window by window."""
        transcript = transcribe(
            model, samples, lengths, max_length=options.max_length, beam_size=options.beam_size,
            length_penalty=options.length_penalty, word_times=word_times,
            **options.search_options,
        )  # fmt: skip
        found = segments(transcript, model)
        has_words = tf.reduce_any(transcript.ids != 0, 2)
        counts = tf.reduce_sum(tf.cast(has_words, tf.float32), 1)
        total = tf.reduce_sum(tf.where(has_words, transcript.log_probs, 0.0), 1)
        return tf.math.divide_no_nan(total, counts), found

    def in_one_window(samples, lengths):
        """Texts and scores of recordings that fit into a window."""
        inputs, is_empty = search.of_samples(samples, lengths)
        found = search.found(inputs, is_empty, best_only=True)
        return model.target_texts(found.ids[:, 0]), found.scores[:, 0]

    def in_many_windows(samples, lengths):
        scores, found = whole(samples, lengths, word_times=False)
        return found.texts, scores

    def serving_default(contents):
        samples, lengths = reader.decode(contents, options.max_source_length)
        is_long = lengths > longest
        none = (tf.zeros([0], tf.string), tf.zeros([0]))
        rows, answers = [], []
        for function, chosen in ((in_one_window, ~is_long), (in_many_windows, is_long)):
            places = tf.where(chosen)[:, 0]
            few, count = tf.gather(samples, places), tf.gather(lengths, places)
            few = few[:, : tf.maximum(tf.reduce_max(count), 1)]
            rows.append(places)
            answers.append(
                tf.cond(
                    tf.size(places) > 0, lambda f=function, x=few, n=count: f(x, n), lambda: none
                )
            )
        order = tf.argsort(tf.concat(rows, 0))
        texts, scores = (
            tf.gather(tf.concat(both, 0), order) for both in zip(*answers, strict=True)
        )
        return {"text": texts, "score": tf.maximum(scores, tf.float32.min)}

    def parts(contents):
        samples, lengths = reader.decode(contents, options.max_source_length)
        rows = tf.shape(contents)[0]
        missing = tf.maximum(1 - rows, 0)
        samples = tf.pad(samples, [[0, missing], [0, 0]])
        _, found = whole(samples, tf.pad(lengths, [[0, missing]]), word_times=True)
        of_parts = ("segment", "begin", "end", "no_speech", "word_count")
        names = ("text", *of_parts, "word", "word_begin", "word_end")
        return dict(zip(names, (each[:rows] for each in found), strict=True))

    return serving_default, parts
