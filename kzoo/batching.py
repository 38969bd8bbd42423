"""Batches for `fit`: teacher-forcing pairs within a token budget, and long streams in chunks.

Axis letters: B batch, T target steps, S source steps. A batch is
`({"source": (B, S) ids, "target": (B, T) ids}, labels (B, T))`: the decoder reads the target
shifted right by the start id and is to say the labels, which end with the end id. 0 is padding.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from kzoo.text import copying
from kzoo.text.special_ids import END_ID, START_ID


class Corpus(NamedTuple):
    """Tokenized pairs in memory, 4 bytes a token; or `text.SampledSubwords` in place of either."""

    source: tf.RaggedTensor  # (N, None) int32, without start and end
    target: tf.RaggedTensor  # (N, None) int32
    copy_ids: tf.RaggedTensor | None = None  # (N, None) int32, one for each source token
    names: tf.Tensor | None = None  # (N,) string, what messages call each pair


def tokenize(tokenizer, texts, chunk=10_000):
    """Tokenizes a list of texts, chunk by chunk; returns a RaggedTensor (N, None) int32."""
    starts = range(0, max(len(texts), 1), chunk)  # one empty chunk has the dtype of all others
    return tf.concat([tokenizer.tokenize(texts[i : i + chunk]) for i in starts], 0)


def copying_corpus(
    source_tokenizer, target_tokenizer, sources, targets, longest=None, chunk=10_000
):
    """Tokenizes pairs for a model that copies, chunk by chunk.

    A target word that the vocabulary lacks has the id of its place in the source, if it is there:
    `layers.copying` says how. `token_batches` and `teacher_forcing` hand it all on.

    Args:
        source_tokenizer, target_tokenizer: two of words or of characters, or one of subwords.
        sources, targets: lists of N str.
        longest: int, most source tokens; the rest is cut off. None for all.
        chunk: int, pairs at once.

    Returns:
        Corpus with `copy_ids`.

    Raises:
        ValueError: the tokenizers do not go together, or the lists are of different lengths.
    """
    copying.check_copying(source_tokenizer, target_tokenizer)
    if len(sources) != len(targets):
        raise ValueError(
            f"`sources` and `targets` must be equally many, got {len(sources)} and {len(targets)}."
        )
    parts = []
    for i in range(0, max(len(sources), 1), chunk):
        texts = tf.constant(sources[i : i + chunk], tf.string)
        copy_ids, ids = copying.copyable(
            target_tokenizer, texts, tf.constant(targets[i : i + chunk], tf.string), longest
        )
        parts.append((source_tokenizer.tokenize(texts)[:, :longest], ids, copy_ids))
    return Corpus(*(tf.concat(sides, 0) for sides in zip(*parts, strict=True)))


def map_by_length(function, texts, batch_size, *beside):
    """Applies a function to batches of texts of like length: less padding than in their order.

    Args:
        function: from a list of at most `batch_size` texts, and as many of each of `beside`, to as
            many answers.
        texts: list of N texts.
        batch_size: int.
        *beside: further lists of N.

    Returns:
        list of N answers, in the order of `texts`.
    """
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    answers = [None] * len(texts)
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        given = ([each[i] for i in rows] for each in (texts, *beside))
        for i, answer in zip(rows, function(*given), strict=True):
            answers[i] = answer
    return answers


def teacher_forcing(source, target, copy_ids=None, names=None):
    """Turns ragged ids into padded inputs and labels.

    Args:
        source: (B, None) ragged int, without start and end.
        target: (B, None) ragged int, without start and end.
        copy_ids: (B, None) ragged int, one for each source token, or None.
        names: (B,) string, what messages call each pair, or None.

    Returns:
        `({"source": (B, S), "target": (B, T)}, labels (B, T))`, int32: the source and the labels
        end with END_ID, the target begins with START_ID. With `copy_ids`, the inputs have them as
        "copy_ids" (B, S): 0 for the end and the padding; with `names`, these as "name" (B,).
    """
    shifted, labels = decoder_ids(target)
    inputs = {"source": _ended(source).to_tensor(), "target": shifted}
    if copy_ids is not None:
        inputs["copy_ids"] = _ended(copy_ids, 0).to_tensor()
    if names is not None:
        inputs["name"] = names
    return inputs, labels


def _ended(ids, end=END_ID):
    return tf.concat([ids, tf.fill([ids.nrows(), 1], tf.constant(end, ids.dtype))], 1)


def decoder_ids(target):
    """What a decoder reads, beginning with START_ID, and what it is to say, ending with END_ID."""
    starts = tf.fill([target.nrows(), 1], tf.constant(START_ID, target.dtype))
    return tf.concat([starts, target], 1).to_tensor(), _ended(target).to_tensor()


def plan(source_lengths, target_lengths, batch_tokens, rng=None, pool=100_000, rows_multiple=8):
    """Groups examples of like length into batches within a token budget.

    Examples are dealt into pools, always the same, so that each epoch has as many batches. A pool
    is sorted by the length of the longer side, which the budget is about, then by what the other
    lacks, equal ones at random, and cut so that rows times the longest sequence, end id included,
    stay within the budget. The batches are then shuffled.

    Args:
        source_lengths, target_lengths: (N,) int, without start and end.
        batch_tokens: int, most tokens of a batch on either side, padding included; a longer
            example makes a batch of its own.
        rng: numpy Generator, or None for the same batches each time, in order of length.
        pool: int, examples that are sorted together.
        rows_multiple: int; rows are a multiple of it where the budget allows, for regular shapes.

    Returns:
        A list of (B,) index arrays; each example is in exactly one.

    Raises:
        ValueError: if `batch_tokens` is not positive or the lengths differ in number.
    """
    source_lengths = np.asarray(source_lengths) + 1  # the end id
    target_lengths = np.asarray(target_lengths) + 1
    if batch_tokens < 1:
        raise ValueError(f"`batch_tokens` must be at least 1, got batch_tokens={batch_tokens}.")
    if len(source_lengths) != len(target_lengths):
        raise ValueError(
            f"`source` and `target` must have as many rows, "
            f"got {len(source_lengths)} and {len(target_lengths)}."
        )
    order = np.arange(len(source_lengths))
    if len(order) > pool:
        order = np.random.default_rng(0).permutation(order)
    batches = []
    for start in range(0, len(order), pool):
        part = order[start : start + pool]
        if rng is not None:
            part = rng.permutation(part)
        # lexsort keeps the random order among equals, so that batches differ between epochs.
        longest = np.maximum(source_lengths[part], target_lengths[part])
        surplus = source_lengths[part] - target_lengths[part]
        # Back and forth between long sources and long targets, so that neighbours are alike.
        by_length = np.lexsort((np.where(longest % 2, surplus, -surplus), longest))
        part, longest = part[by_length], longest[by_length]
        first = 0
        while first < len(part):
            widths = longest[first : first + batch_tokens]  # the batch's, if it ends here
            fits = widths * np.arange(1, len(widths) + 1) <= batch_tokens
            rows = max(1, len(fits) if fits.all() else int(np.argmin(fits)))
            if rows > rows_multiple and first + rows < len(part):
                rows -= rows % rows_multiple
            batches.append(part[first : first + rows])
            first += rows
    if rng is not None:
        rng.shuffle(batches)
    return batches


def padding_share(source_lengths, target_lengths, batches):
    """Returns the share of padding among all tokens of the planned batches, in [0, 1]."""
    real = padded = 0
    for lengths in (np.asarray(source_lengths) + 1, np.asarray(target_lengths) + 1):
        real += lengths.sum()
        padded += sum(len(batch) * lengths[batch].max() for batch in batches)
    return float(1 - real / padded) if padded else 0.0


def token_batches(corpus, batch_tokens, seed=None, pool=100_000, draw=None, start=0):
    """Makes the dataset of teacher-forcing batches for `fit`.

    Each pass over a shuffled dataset has an order of its own, which `seed` and the number of the
    pass decide; one that was not read to its end is begun again. What is read ahead counts as read:
    give `fit` a dataset that nothing else has looked into. The dataset knows its number of
    batches, so `fit` shows a proper progress bar.

    Args:
        corpus: `Corpus`.
        batch_tokens, pool: as in `plan`.
        seed: int or list of int to shuffle, None to keep one fixed order.
        draw: function from a numpy Generator to the (M,) rows of a pass, as `mixture.mixed` gives
            it; None for all rows, each once. Needs a seed.
        start: int, the batch that the dataset begins with, counted from 0 through all passes, where
            a resumed training goes on. Each pass has all batches, and then ends within an order.

    Returns:
        tf.data.Dataset of `({"source", "target"}, labels)` as in `teacher_forcing`. With names in
        the corpus, the inputs hold those of the batch as "name" (B,), too.
    """
    *ids, names = corpus

    def gather(rows, number):
        sides = (None if side is None else _ids_of(side, rows, number) for side in ids)
        return teacher_forcing(*sides, None if names is None else tf.gather(names, rows))

    lengths = corpus.source.row_lengths().numpy(), corpus.target.row_lengths().numpy()
    return planned_batches(*lengths, batch_tokens, gather, seed, pool, start, draw)


def frame_batches(
    frames, target, batch_frames, seed=None, pool=100_000, names=None, draw=None, start=0
):
    """Makes the dataset of teacher-forcing batches of features, of speech for example.

    Args:
        frames: sequence of N arrays (S, F) float32, such as a list, or views of a file in memory;
            only those of a batch are read.
        target: (N, None) ragged int32 ids, without start and end, or `text.SampledSubwords`.
        batch_frames: int, most frames of a batch, padding included; as `batch_tokens` of `plan`.
        seed, pool: as in `token_batches`.
        names: list of N str, such as files, or None.
        draw, start: as in `token_batches`.

    Returns:
        tf.data.Dataset of `({"source": (B, S, F) float32, "source_mask": (B, S) bool,
        "target": (B, T) int32}, labels (B, T))`; the latter as in `teacher_forcing`. With `names`,
        the inputs hold those of the batch as "name" (B,) string, too.

    Raises:
        ValueError: as `plan`.
    """
    lengths = np.array([len(each) for each in frames], int)
    size = frames[0].shape[1] if len(frames) else None

    def read(rows):
        return padded([frames[index] for index in rows])

    def gather(rows, number):
        source, mask = tf.numpy_function(read, [rows], [tf.float32, tf.bool])
        source = tf.ensure_shape(source, (None, None, size))
        mask = tf.ensure_shape(mask, (None, None))
        shifted, labels = decoder_ids(_ids_of(target, rows, number))
        inputs = {"source": source, "source_mask": mask, "target": shifted}
        return inputs | ({} if names is None else {"name": tf.gather(names, rows)}), labels

    target_lengths = target.row_lengths().numpy()
    return planned_batches(lengths, target_lengths, batch_frames, gather, seed, pool, start, draw)


def padded(frames):
    """Arrays of features in one: list of (S, F) -> source (B, S, F) float32, mask (B, S) bool."""
    lengths = np.array([len(each) for each in frames])
    source = np.zeros((len(frames), lengths.max(), frames[0].shape[1]), np.float32)
    for row, each in zip(source, frames, strict=True):
        row[: len(each)] = each
    return source, np.arange(lengths.max()) < lengths[:, None]


def picture_batches(pictures, rows, target, batch_size, seed=None, draw=None, start=0):
    """Makes the dataset of teacher-forcing batches of pictures, or of features of their regions.

    Captions of one picture share it. Batches of features have captions of like length, as in Xu et
    al. (2015), https://arxiv.org/abs/1502.03044, section 4.3. Those of pixels are drawn at random:
    captions of one length are often of one kind, and batch normalization would see nothing else.

    Args:
        pictures: (N, H, W, 3) or (N, R, D) array of numbers, such as a file in memory; only those
            of a batch are read.
        rows: (M,) int, the picture of each caption.
        target: (M, None) ragged int32 ids, without start and end, or `text.SampledSubwords`.
        batch_size: int, captions of a batch; the last one may have fewer.
        seed, draw, start: as in `token_batches`; `draw` gives the captions of a pass.

    Returns:
        tf.data.Dataset of `({"source": (B, H, W, 3) or (B, R, D) float32, "target": (B, T) int32},
        labels (B, T))`; the latter as in `teacher_forcing`.

    Raises:
        ValueError: `batch_size` is not positive or `rows` and `target` differ in number.
    """
    rows = np.asarray(rows, np.int64)
    count = int(target.nrows())
    if batch_size < 1 or len(rows) != count:
        raise ValueError(
            "`batch_size` must be at least 1 and `rows` and `target` of one length, "
            f"got batch_size={batch_size}, {len(rows)} rows and {count} texts."
        )
    lengths = target.row_lengths().numpy()

    def planned(rng):
        order = np.arange(count) if draw is None else draw(rng)
        if rng is not None:
            order = rng.permutation(order)
        starts = range(0, len(order), batch_size)
        sizes = [min(batch_size, len(order) - start) for start in starts]
        if pictures.ndim == 3:
            order = order[np.argsort(lengths[order], kind="stable")]
            if rng is not None:
                rng.shuffle(sizes)  # or the longest captions would always have the smallest batch
        batches = np.split(order, np.cumsum(sizes, dtype=int))[:-1]
        if pictures.ndim == 3 and rng is not None:
            rng.shuffle(batches)
        return batches

    def gather(batch, number):
        source = tf.numpy_function(lambda batch: pictures[rows[batch]], [batch], pictures.dtype)
        source = tf.ensure_shape(source, (None, *pictures.shape[1:]))
        shifted, labels = decoder_ids(_ids_of(target, batch, number))
        return {"source": tf.cast(source, tf.float32), "target": shifted}, labels

    return _gathered(planned, gather, seed, start)


def planned_batches(
    source_lengths, target_lengths, batch_tokens, gather, seed, pool=100_000, start=0, draw=None
):
    """The dataset of what `gather` makes of the rows of each planned batch.

    Args:
        source_lengths, target_lengths, batch_tokens, pool: as in `plan`.
        gather: function of the rows of a batch, (B,) int64, and the numbers of pass and batch.
        seed, start, draw: as in `token_batches`.
    """

    def planned(rng):
        if draw is None:
            return plan(source_lengths, target_lengths, batch_tokens, rng, pool)
        rows = draw(rng)
        batches = plan(source_lengths[rows], target_lengths[rows], batch_tokens, rng, pool)
        return [rows[batch] for batch in batches]

    return _gathered(planned, gather, seed, start)


def _gathered(planned, gather, seed, start):
    """The dataset of what `gather` makes of each index array, which `planned` lists for a generator
    of random numbers. `gather` is also given the number of the pass and that in the pass."""

    def lists(number):
        batches = planned(pass_rng(seed, number))
        return [(rows, (number, place)) for place, rows in enumerate(batches)]

    numbered, count = stream(lists, start)
    signature = tf.TensorSpec([None], tf.int64), tf.TensorSpec([2], tf.int64)
    dataset = tf.data.Dataset.from_generator(numbered, output_signature=signature)
    dataset = dataset.map(gather, num_parallel_calls=2).prefetch(8)
    return dataset.apply(tf.data.experimental.assert_cardinality(count))


def pass_rng(seed, number):
    """The numpy Generator of a pass: int, list of int or None -> what is the same in every run."""
    return None if seed is None else np.random.default_rng([*np.ravel(seed).tolist(), number])


def stream(lists, start):
    """Passes over data that are drawn anew, from any batch on.

    Every pass has as many items as the first one: where one has more, the last ones are left out,
    and where it has fewer, the first ones come again.

    Args:
        lists: function from the number of a pass to the list of its items.
        start: int, the item to begin with, counted from 0 through all passes.

    Returns:
        function that gives the next so many items, a pass's number of them, as an iterator: those
        after the last ones that were read to their end. And their number.
    """
    count = len(lists(0))

    def items():
        nonlocal start
        number = None
        for place in range(start, start + count):
            if number != place // count:
                number = place // count
                found = lists(number)
            yield found[place % count % len(found)]
        start += count

    return items, count


def _ids_of(ids, rows, number):
    """Some rows of ragged ids, or of what draws other ids at every number."""
    if isinstance(ids, tf.RaggedTensor):
        return tf.gather(ids, rows)
    flat, lengths = tf.numpy_function(ids.draw, [rows, number], [tf.int32, tf.int64])
    flat, lengths = tf.ensure_shape(flat, [None]), tf.ensure_shape(lengths, [None])
    return tf.RaggedTensor.from_row_lengths(flat, lengths)


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

    def batch(places):
        arrays = [np.asarray(array) for array in streams[0]]
        x, target = (np.zeros((rows, steps, *a.shape[1:]), a.dtype) for a in arrays)
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
    return dataset.apply(tf.data.experimental.assert_cardinality(len(chunks))).prefetch(2)
