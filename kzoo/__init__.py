"""kzoo: a sequence-to-sequence model zoo for Keras 3 on TensorFlow."""
