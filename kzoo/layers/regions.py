"""The encoder of pictures: what attention reads of one are the regions of a grid.

Axis letters: B batch, H pixels of a side, R regions, D features.
"""

import keras
import tensorflow as tf

from kzoo.layers import masking, sharing


@keras.saving.register_keras_serializable("kzoo")
class RegionEncoder(keras.layers.Layer):
    """memory = encoder(backbone(pixels) as (B, R, D)): every place of the feature map is a region.

    Xu et al. (2015), https://arxiv.org/abs/1502.03044, section 3.1.1: a feature map and
    not one vector, so that attention can choose among parts of the picture.

    A backbone that is not trained (`encoder.backbone.trainable = False`) gives the same features in
    every epoch. They can be computed once, by `regions`, and be the source in place of the pixels.

    Args:
        backbone: keras.Model, pixels (B, H, H, 3) -> (B, h, h, D), see `image.backbones`.
        encoder: layer, encoder(features, source_mask) -> (memory, memory_mask, ...), such as
            TransformerEncoder; or None for the features themselves.

    Call arguments:
        source: (B, H, H, 3) float pixels in [0, 255]; or (B, R, D) features, dense or ragged.
        source_mask: (B, R) bool of features; None means all True.
        mask: the same, filled in by Keras when `source` is the only tensor argument and carries
            a mask.

    Returns:
        What `encoder` returns; without one memory (B, R, D), row by row, and memory_mask (B, R).

    Example:

    >>> encoder = kzoo.RegionEncoder(kzoo.backbones.small_resnet(size=32, widths=(4, 6, 8)))
    >>> memory, memory_mask = encoder(tf.zeros((2, 32, 32, 3)))
    >>> memory.shape
    TensorShape([2, 16, 8])
    """

    stride = 1  # regions from one memory step to the next
    can_stream = False  # whether there is a `step` for live audio

    def __init__(self, backbone, encoder=None, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True
        self.backbone = backbone
        self.encoder = encoder

    def build(self, source_shape):
        if self.encoder is not None and not self.encoder.built:
            _, rows, columns, size = self.backbone.output_shape
            self.encoder.build((source_shape[0], rows * columns, size))

    def regions(self, pixels, training=False):
        """The backbone's features of pixels (B, H, H, 3), as (B, R, D)."""
        features = self.backbone(pixels, training=training)
        rows, columns, size = features.shape[1:]
        return tf.reshape(features, (tf.shape(features)[0], rows * columns, size))

    def call(self, source, source_mask=None, mask=None, training=False):
        if source.shape.rank == 4:
            source, source_mask, mask = self.regions(source, training), None, None
        features, mask = masking.to_dense(source, mask if source_mask is None else source_mask)
        features = masking.blank(tf.cast(features, self.compute_dtype), mask)
        if self.encoder is None:
            return masking.carry_mask(features, mask), mask
        return self.encoder(features, source_mask=mask, training=training)

    def compute_mask(self, source, previous_mask=None):
        return None

    @sharing.numbered
    def get_config(self):
        return {
            **super().get_config(),
            "backbone": sharing.serialize(self.backbone),
            "encoder": sharing.serialize(self.encoder),
        }

    @classmethod
    @sharing.once()
    def from_config(cls, config):
        return cls(**sharing.deserialize(config, "backbone", "encoder"))
