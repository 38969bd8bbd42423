"""Long streams in chunks, several side by side, for RNNs that keep their state."""

import numpy as np
import tensorflow as tf

from kzoo.batching.passes import of_length


def stream_chunks(streams, rows, steps):
    """Makes the dataset of chunks of long streams, for a StatefulRNN.

    Row b of a batch goes on where row b of the batch before ended. When its stream has ended, it
    takes the next one that waits; without any left it is idle.

    Args:
        streams: list of (x, target) pairs of arrays, (T, F) and (T, ...); T may differ.
        rows: int, B, streams that run side by side.
        steps: int, T of each chunk.

    Returns:
        tf.data.Dataset of `({"x": (B, T, F), "reset": (B,) bool, "mask": (B, T) bool},
        target (B, T, ...), weights (B, T) float32)`. `reset` is True where a stream begins and in
        idle rows; the mask is False and all else zeros after the end of a stream.

    Raises:
        ValueError: if there is no stream, `rows` or `steps` is not positive, or an x has not as
            many steps as its target.
    """
    if not streams or rows < 1 or steps < 1:
        raise ValueError(
            "`streams` must not be empty, and `rows` and `steps` must be at least 1, "
            f"got {len(streams)} streams, rows={rows}, steps={steps}."
        )
    streams = [tuple(map(np.asarray, stream)) for stream in streams]
    for index, (x, target) in enumerate(streams):
        if len(x) != len(target):
            raise ValueError(
                f"`streams[{index}]` must have as many steps in x as in target, "
                f"got {len(x)} and {len(target)}."
            )
    waiting = list(reversed(range(len(streams))))

    def following(place):
        """The stream and first step of a row's next chunk, None if it is idle."""
        if place and place[1] + steps < len(streams[place[0]][0]):
            return place[0], place[1] + steps
        return (waiting.pop(), 0) if waiting else None

    chunks, places = [], [following(None) for _ in range(rows)]
    while any(places):
        chunks.append(places)
        places = [following(place) for place in places]

    kinds = [np.result_type(*arrays) for arrays in zip(*streams, strict=True)]

    def batch(places):
        x, target = (
            np.zeros((rows, steps, *array.shape[1:]), kind)
            for array, kind in zip(streams[0], kinds, strict=True)
        )
        mask = np.zeros((rows, steps), bool)
        for row, place in enumerate(places):
            if place is None:
                continue
            stream, first = place
            part = streams[stream][0][first : first + steps]
            x[row, : len(part)] = part
            target[row, : len(part)] = streams[stream][1][first : first + steps]
            mask[row, : len(part)] = True
        reset = np.array([place is None or place[1] == 0 for place in places])
        return {"x": x, "reset": reset, "mask": mask}, target, mask.astype("float32")

    signature = tf.nest.map_structure(tf.type_spec_from_value, batch(chunks[0]))
    dataset = tf.data.Dataset.from_generator(lambda: map(batch, chunks), output_signature=signature)
    return of_length(dataset.prefetch(2), len(chunks))
