"""Embeddings: tables for ids, and how an encoder reads its source through one.

Axis letters: B batch, S source steps, D features, V vocabulary.
"""

import keras
import tensorflow as tf

from kzoo import checks
from kzoo.layers import masking


@keras.saving.register_keras_serializable("kzoo")
class TokenEmbedding(keras.layers.Layer):
    """E[id], the row of each id in a table that VocabularyHead can share.

    Args:
        vocabulary_size: int, V.
        units: int, D.
        scale: bool, whether to multiply by sqrt(D), as Vaswani et al. (2017),
            https://arxiv.org/abs/1706.03762, section 3.4, do where the table is shared.

    Call arguments:
        ids: (B, T) int, dense or ragged; other types are cast, as by keras.layers.Embedding.

    Returns:
        (B, T, D), dense. It carries the mask of the ids for Keras, as that of
        keras.layers.Embedding(mask_zero=True) does; padding ids get a row like all others.

    Raises:
        ValueError: if a size is not positive.

    Example:

    >>> embedding = kzoo.TokenEmbedding(vocabulary_size=10, units=4)
    >>> embedding(tf.ragged.constant([[4, 5, 2], [6, 2]])).shape
    TensorShape([2, 3, 4])
    """

    def __init__(self, vocabulary_size, units, scale=False, **kwargs):
        super().__init__(autocast=False, **kwargs)  # float ids stay whole
        self.supports_masking = True
        checks.at_least(1, vocabulary_size=vocabulary_size, units=units)
        self.vocabulary_size = vocabulary_size
        self.units = units
        self.scale = scale

    def build(self, ids_shape):
        self.embeddings = self.add_weight(
            shape=(self.vocabulary_size, self.units),
            initializer=keras.initializers.RandomNormal(stddev=self.units**-0.5),
            autocast=False,
            name="embeddings",
        )

    def call(self, ids):
        ids, _ = masking.to_dense(masking.as_ids(ids))
        # Rows are cast after the lookup: casting the table would touch all V rows.
        rows = tf.cast(tf.gather(self.embeddings.value, ids), self.compute_dtype)
        return rows * tf.cast(self.units**0.5, rows.dtype) if self.scale else rows

    def compute_mask(self, ids, previous_mask=None):
        if isinstance(ids, keras.KerasTensor):
            return previous_mask  # found when the functional model runs
        return masking.to_dense(masking.as_ids(ids), previous_mask)[1]

    def compute_output_shape(self, ids_shape):
        return (*ids_shape, self.units)

    def get_config(self):
        config = {"vocabulary_size": self.vocabulary_size, "units": self.units}
        return {**super().get_config(), **config, "scale": self.scale}


def build_embedding(embedding, shape):
    """Builds the embedding, unless its other owner did; returns its number of features D."""
    given = keras.KerasTensor(shape, "int32" if len(shape) == 2 else "float32")  # ids, or features
    if not embedding.built:
        if getattr(embedding.build, "_is_default", False):  # what it is made of, a call finds out
            embedding(given)
        else:
            embedding.build(shape)
    return embedding.compute_output_spec(given).shape[-1]


def read_source(embedding, source, source_mask):
    """Returns the embedded source (B, S, D) and its mask, for a source of any kind."""
    checks.sequence(source=source)
    if len(source.shape) == 2:
        source = masking.as_ids(source)
    source, source_mask = masking.to_dense(source, source_mask)
    if source.dtype.is_floating:
        # A NaN in the padding would get into the gradient of the embedding.
        source = masking.blank(source, source_mask)
    return embedding(source), source_mask
