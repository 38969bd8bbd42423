"""A model in training as a function from arrays to texts, to be scored in between.

transcribe = transcriber(model, max_length)        # clips (S, F)
describe = describer(model, shape, max_length)     # pixels or features of pictures
"""

import numpy as np

import kzoo


def best_texts(model, spec, max_length: int, beam_size: int = 1, **options):
    """A function from a batch of what the model reads, as `spec` says, to its best texts.

    It is traced once and goes on with the weights of the moment.
    """
    import tensorflow as tf

    @tf.function(input_signature=[spec], autograph=False)
    def best(source):
        found = model.generate(
            source, beam_size=beam_size, max_length=max_length, best_only=True, **options
        )
        return model.target_tokenizer.detokenize(found.ids[:, 0])

    return lambda source: [answer.decode() for answer in best(source).numpy()]


def transcriber(
    model,
    max_length: int,
    beam_size: int = 1,
    ctc_weight: float | None = None,
):
    """A function from a list of (S, F) arrays to texts.

    `ctc_weight` is CTC's in the search of a joint model; None takes the model's own.
    """
    import tensorflow as tf

    shape = (None, None, model.source_tokenizer.features.num_mels)
    spec = tf.RaggedTensorSpec(shape, tf.float32, ragged_rank=1)
    options = {} if ctc_weight is None else {"ctc_weight": ctc_weight}
    best = best_texts(model, spec, max_length, beam_size, **options)

    def texts_of(arrays):
        def answers(some):
            lengths = list(map(len, some))
            return best(tf.RaggedTensor.from_row_lengths(np.concatenate(some), lengths))

        return kzoo.batching.map_by_length(answers, arrays, 32)

    return texts_of


def describer(model, shape: tuple, max_length: int, batch_size: int = 64):
    """A function from an array (N, *shape) of pixels or features to N captions."""
    import tensorflow as tf

    best = best_texts(model, tf.TensorSpec((None, *shape), tf.float32), max_length)

    def describe(seen):
        starts = range(0, len(seen), batch_size)
        batches = (np.float32(seen[start : start + batch_size]) for start in starts)
        return [answer for batch in batches for answer in best(batch)]

    return describe
