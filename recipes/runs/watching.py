"""What TensorBoard shows of a run: `--tensorboard DIR`, and `--profile` for where the time goes.

tensorboard --logdir DIR
"""

from __future__ import annotations

import keras
import tensorflow as tf

from kzoo.text import UNKNOWN_ID

ROWS = 4  # examples of the sample
PROFILED = range(20, 30)  # batches of this `fit`, counted from 0


class Board(keras.callbacks.Callback):
    """Writes the logs of each epoch, the rate, and answers to a fixed sample with their attention.

    Args:
        folder: of TensorBoard's files.
        batches: those of validation; the first rows of the first one are the sample.
        max_length: int, most tokens of an answer.
    """

    def __init__(self, folder, batches, max_length):
        super().__init__()
        self.folder = folder
        self.max_length = max_length
        inputs, self._labels = (
            tf.nest.map_structure(lambda x: x[:ROWS], part) for part in next(iter(batches))
        )
        names = "source", "source_mask", "copy_ids"
        self._source = {name: inputs[name] for name in names if name in inputs}

    def on_train_begin(self, logs=None):
        self._writer = tf.summary.create_file_writer(str(self.folder))
        self._search = tf.function(self._found, autograph=False)

    def _found(self):
        source, mask = self._source["source"], self._source.get("source_mask")
        if mask is not None:
            source = tf.RaggedTensor.from_tensor(source, tf.reduce_sum(tf.cast(mask, tf.int32), 1))
        copied = {"copy_ids": ids} if (ids := self._source.get("copy_ids")) is not None else {}
        return self.model.generate(source, beam_size=1, max_length=self.max_length, **copied)

    def on_epoch_end(self, epoch, logs=None):
        found, step = self._search(), epoch + 1
        answers, references = (
            [text.decode(errors="replace") for text in texts.numpy()]
            for texts in map(self._texts, (found.ids[:, 0], self._labels))
        )
        with self._writer.as_default(step):
            for name, value in logs.items():
                _write(name, tf.constant(value, tf.float32), "scalars")
            _write(
                "learning_rate", tf.cast(self.model.optimizer.learning_rate, tf.float32), "scalars"
            )
            rows = "\n".join(f"| {a} | {r} |" for a, r in zip(answers, references, strict=True))
            _write("answers", tf.constant(f"| answer | reference |\n|---|---|\n{rows}"), "text")
            if found.weights.shape[-1] != 0:
                steps = 1 + int(tf.reduce_max(found.lengths[:, 0]))  # with the end
                _write("attention", _pictures(found.weights[:, 0, :steps]), "images")
        self._writer.flush()

    def _texts(self, ids):
        tokenizer = self.model.target_tokenizer
        is_word = ids < tokenizer.vocabulary_size()  # else it is copied from the source
        return tokenizer.detokenize(tf.where(is_word, tf.cast(ids, tf.int32), UNKNOWN_ID))

    def on_train_end(self, logs=None):
        self._writer.close()


def _write(name, tensor, plugin):
    """As `tf.summary.scalar`, `text` and `image`, which need the package tensorboard."""
    data = tf.compat.v1.SummaryMetadata.PluginData(plugin_name=plugin)
    tf.summary.write(name, tensor, metadata=tf.compat.v1.SummaryMetadata(plugin_data=data))


def _pictures(weights):
    """(B, T, S) attention weights -> what TensorBoard takes for B pictures of 8 T x 8 S: their
    width, height and PNGs. A row is a token; a square is dark where its weight is high."""
    light = 1 - tf.clip_by_value(tf.cast(weights, tf.float32), 0, 1)
    light = tf.cast(255 * tf.repeat(tf.repeat(light, 8, 1), 8, 2), tf.uint8)[..., None]
    height, width = light.shape[1:3]
    return tf.stack([str(width), str(height), *map(tf.io.encode_png, light)])


class Profile(keras.callbacks.Callback):
    """Writes where the time of some batches goes.

    Args:
        folder: of TensorBoard's files.
    """

    def __init__(self, folder):
        super().__init__()
        self.folder = folder
        self._batches = 0

    def on_train_batch_begin(self, batch, logs=None):
        if self._batches == PROFILED.start:
            tf.profiler.experimental.start(str(self.folder))
        if self._batches == PROFILED.stop:
            tf.profiler.experimental.stop()
        self._batches += 1

    def on_train_end(self, logs=None):
        if PROFILED.start < self._batches <= PROFILED.stop:
            tf.profiler.experimental.stop()
