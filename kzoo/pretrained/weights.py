"""Weights: arrays by name out of a file, read when they are asked for."""

from collections.abc import Mapping

import numpy as np


class Weights(Mapping):
    """Name -> array; floats of any precision come as float32. Nothing is kept.

    Args:
        source: path or str, what an error calls them.
        readers: dict of name -> function without arguments that returns the array.

    Example:

    >>> weights = Weights("model.bin", {"bias": lambda: np.ones(3, "float16")})
    >>> weights["bias"].dtype
    dtype('float32')
    """

    def __init__(self, source, readers):
        self.source = source
        self._readers = dict(readers)
        self._taken = set()

    def __getitem__(self, name):
        array = np.asarray(self._readers[name]())
        is_float = array.dtype.kind not in "iub"  # bfloat16 is of kind "V"
        return array.astype(np.float32, copy=False) if is_float else array

    def __contains__(self, name):
        return name in self._readers

    def __iter__(self):
        return iter(self._readers)

    def __len__(self):
        return len(self._readers)

    def take(self, name, shape=None):
        """The array of that name, which `left` then leaves out.

        Args:
            name: str.
            shape: tuple of int, or of None for an axis of any size; or None for any shape.

        Raises:
            ValueError: there is none, or it has another shape.
        """
        if name not in self:
            raise ValueError(f"{self.source} must hold the weight {name!r}, got none of that name.")
        array = self[name]
        if shape is not None:
            fits = len(shape) == array.ndim and all(
                size in (None, found) for size, found in zip(shape, array.shape, strict=True)
            )
            if not fits:
                raise ValueError(
                    f"{self.source}: the weight {name!r} must have the shape {tuple(shape)}, "
                    f"got {array.shape}."
                )
        self._taken.add(name)
        return array

    def left(self):
        """The names of what nobody has taken, list of str."""
        return [name for name in self if name not in self._taken]
