"""Recordings of any length, for models that hear one window at a time, as Whisper does.

Axis letters: N contents, G segments and M words of the longest answer, L samples.
"""

import tensorflow as tf

from kzoo.models.segmenting import Segments, segments
from kzoo.models.transcription import transcribe
from kzoo.models.windows import answer_to_window, is_silent

_OF_SEGMENTS = ("text", "segment", "begin", "end", "no_speech", "word_count")
_NAMES = (*_OF_SEGMENTS, "word", "word_begin", "word_end")  # of the fields of Segments


def of_recordings(search):
    """The functions of contents (N,) behind `serving_default` and `segments`.

    `serving_default` answers all recordings that fit into a window at once. Longer ones are
    transcribed with times, one window after the other, and one recording after the other, so that
    the samples and frames of one alone are in memory. Both are drawn anew where they are not
    believed. Recordings of a batch do not change each other's results.

    Args:
        search: signatures.Search of a model with `signs`.

    Returns:
        serving_default, segments: functions to dicts of tensors.
    """
    model, options = search.model, search.options
    reader = model.source_tokenizer
    window = reader.features.num_frames * reader.features.hop  # samples
    of_search = {
        "max_length": options.max_length,
        "beam_size": options.beam_size,
        "length_penalty": options.length_penalty,
        **options.search_options,
    }

    def in_many_windows(samples, lengths, word_times):
        """The score and Segments of one recording (1, L), window by window."""
        transcript = transcribe(
            model, samples, lengths, word_times=word_times, doubts=options.doubts, **of_search
        )
        has_words = tf.reduce_any(transcript.ids != 0, 2)
        counts = tf.reduce_sum(tf.cast(has_words, tf.float32), 1)
        total = tf.reduce_sum(tf.where(has_words, transcript.log_probs, 0.0), 1)
        return tf.math.divide_no_nan(total, counts)[0], segments(transcript, model)

    def in_one_window(samples, lengths):
        """Texts and scores of recordings that fit into a window; N is at least 1."""
        inputs, is_empty = search.of_samples(samples, lengths)
        answer, _ = answer_to_window(
            model, inputs["source"], search.prompt, search.signs, options.doubts, 0, of_search
        )
        is_empty |= is_silent(answer.log_probs, answer.no_speech, options.doubts)
        ids = tf.where(is_empty[:, None], 0, answer.ids)
        return model.target_texts(ids), tf.where(is_empty, 0.0, answer.log_probs)

    def checked(contents):
        """The contents, once it is known of several that none is no WAV, or too long: it is said
        before hours of others are transcribed."""

        def all_decoded():
            lengths = tf.map_fn(
                lambda content: reader.decode(content[None], options.max_source_length)[1],
                contents,
                fn_output_signature=tf.TensorSpec([1], tf.int32),
                parallel_iterations=1,
            )
            with tf.control_dependencies([lengths]):
                return tf.identity(contents)

        return tf.cond(tf.size(contents) > 1, all_decoded, lambda: contents)

    def serving_default(contents):
        def decoded(content):
            """The samples of a content if it is short; the text and score if it is long."""
            samples, lengths = reader.decode(content[None], options.max_source_length)

            def answered():
                score, found = in_many_windows(samples, lengths, word_times=False)
                return samples[0, :0], found.texts[0], score

            is_long = lengths[0] > window
            return *tf.cond(is_long, answered, lambda: (samples[0], "", 0.0)), is_long

        specs = (tf.RaggedTensorSpec([None], tf.float32, 0), tf.string, tf.float32, tf.bool)
        samples, texts, scores, is_long = tf.map_fn(
            decoded, checked(contents), fn_output_signature=specs, parallel_iterations=1
        )
        places = tf.where(~is_long)
        short = tf.gather(samples, places[:, 0])
        lengths = tf.cast(short.row_lengths(), tf.int32)
        short = short.to_tensor()
        short = tf.pad(short, [[0, 0], [0, tf.maximum(1 - tf.shape(short)[1], 0)]])

        def with_short():
            found = in_one_window(short, lengths)
            return tuple(
                tf.tensor_scatter_nd_update(all_, places, few)
                for all_, few in zip((texts, scores), found, strict=True)
            )

        texts, scores = tf.cond(tf.size(places) > 0, with_short, lambda: (texts, scores))
        return {"text": texts, "score": tf.maximum(scores, tf.float32.min)}

    def parts(contents):
        def of_one(content):
            samples, lengths = reader.decode(content[None], options.max_source_length)
            _, found = in_many_windows(samples, lengths, word_times=True)
            return tuple(each[0] for each in found)

        types = dict.fromkeys(Segments._fields, tf.float32)
        types |= {"texts": tf.string, "parts": tf.string, "words": tf.string}
        types |= {"word_counts": tf.int32}
        specs = tuple(
            tf.TensorSpec([], type_)
            if name == "texts"
            else tf.RaggedTensorSpec([None], type_, ragged_rank=0)
            for name, type_ in types.items()
        )
        texts, *others = tf.map_fn(
            of_one, checked(contents), fn_output_signature=specs, parallel_iterations=1
        )
        found = (texts, *(each.to_tensor() for each in others))
        return dict(zip(_NAMES, found, strict=True))

    return serving_default, parts
