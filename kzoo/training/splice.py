"""Splicing: clips that nobody said, of the words of several clips.

    pieces = word_pieces(model, frames, target, texts)      # once, with a model that aligns well
    batches = spliced_batches(pieces, speakers, tokenizer, batch_frames)

Lam et al. (2021), https://arxiv.org/abs/2104.01393, put words of other clips in the place of some;
Le et al. (2025), https://arxiv.org/abs/2502.14685, found by CTC where the words are. Here any words
follow one another: neither decoder nor encoder can learn the texts by heart, which a model of a few
hours of speech does. Axis letters: B batch, S frames, F features, T tokens.
"""

import itertools
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from kzoo import audio, batching, checks
from kzoo.batching import passes
from kzoo.ctc import ctc_align
from kzoo.layers import masking
from kzoo.models import CTCModel

MIN_FRAMES = 8  # of a word, usually 80 ms; what is shorter was hardly cut where it is
SMOOTHED_FRAMES = 3  # whose mean is the level that a cut looks for
SPLICED_SHARE = 0.7  # of the clips of a pass; the others stay whole
OWN_SHARE = 0.5  # of the spliced clips, of one speaker each


class Piece(NamedTuple):
    """A word of a clip, or a clip that could not be cut, with the silence around it."""

    frames: np.ndarray  # (S, F) float32
    text: str


def word_pieces(model, frames, target, texts, batch_frames=8_000, verbose=0):
    """Cuts each clip at its words, where CTC hears them.

    Args:
        model: Seq2Seq with a CTC head, or CTCModel; trained, with its tokenizer.
        frames: sequence of N arrays (S, F) float32, as the model reads them.
        target: (N, None) ragged int32 ids of the texts, without start and end.
        texts: list of N str.
        batch_frames: int, most frames that are aligned at once, padding included.
        verbose: 1 shows a progress bar.

    Returns:
        list of N lists of `Piece`, which together are the clip. A clip stays whole if it has no
        alignment, or its tokens are not as many words as its text; words are what spaces divide.

    Raises:
        ValueError: if frames, ids and texts differ in number or are none, the model has no CTC, or
            `batch_frames` is not positive.
    """
    if not 1 <= len(frames) == target.shape[0] == len(texts):
        raise ValueError(
            "`frames`, `target` and `texts` must be as many, and at least one, "
            f"got {len(frames)}, {target.shape[0]} and {len(texts)}."
        )
    checks.integer(1, batch_frames=batch_frames)
    if not (isinstance(model, CTCModel) or model.ctc_head):
        raise ValueError("`model` must have CTC, which finds the words, got ctc_head=None.")

    signature = (
        tf.TensorSpec([None, None, frames[0].shape[1]]),
        tf.TensorSpec([None, None], tf.bool),
        tf.RaggedTensorSpec([None, None], tf.int32),
    )

    @tf.function(input_signature=signature, autograph=False)
    def aligned(source, mask, labels):
        ids, _ = batching.decoder_ids(labels)
        outputs = model({"source": source, "source_mask": mask, "target": ids})
        return ctc_align(labels, outputs["ctc_logits"], outputs["memory_mask"])[:2]

    lengths = np.array([len(each) for each in frames], int)
    words = word_numbers(model.target_tokenizer.tokens(target).to_list())
    pieces = [None] * len(frames)
    bar = keras.utils.Progbar(len(frames), verbose=verbose, unit_name="clip")
    for rows in batching.plan(lengths, target.row_lengths().numpy(), batch_frames):
        source, mask = batching.padded([frames[row] for row in rows])
        found = aligned(source, mask, tf.gather(target, rows))
        first, last = (each.numpy() * model.encoder_stride for each in found)
        last += model.encoder_stride - 1
        for row, starts, ends in zip(rows, first, last, strict=True):
            pieces[row] = _cut(frames[row], texts[row], words[row], starts, ends)
        bar.add(len(rows))
    return pieces


def word_numbers(tokens):
    """Which word each token belongs to, from 0 on; -1 for a space of its own.

    Args:
        tokens: list of lists of bytes or str, as of `Tokenizer.tokens`.

    Returns:
        list of (T,) int arrays.

    Example:

    >>> kzoo.splice.word_numbers([["t", "w", "o", " ", "a"], ["▁se", "ven", "▁a"]])
    [array([ 0,  0,  0, -1,  1]), array([0, 0, 1])]
    """
    found = []
    for row in tokens:
        numbers, number, is_new = [], -1, True
        for token in row:
            surface = token.decode() if isinstance(token, bytes) else token
            surface = surface.replace("▁", " ")
            is_new |= surface.startswith(" ")
            number += is_new and bool(surface.strip())
            numbers.append(number if surface.strip() else -1)
            is_new &= not surface.strip()
        found.append(np.array(numbers, int))
    return found


def _cut(frames, text, words, starts, ends):
    """Cuts a clip between its words, where the features are lowest: list of Piece."""
    names = text.split()
    count = words.max(initial=-1) + 1
    if count != len(names) or count < 2 or (starts[: len(words)] < 0).any():
        return [Piece(frames, text)]
    level = np.convolve(frames.mean(1), np.ones(SMOOTHED_FRAMES), "same")
    cuts = [0]
    for number in range(1, count):
        least = ends[np.flatnonzero(words == number - 1)[-1]] + 1
        most = max(starts[np.flatnonzero(words == number)[0]], least)
        cuts.append(int(min(least + level[least : most + 1].argmin(), len(frames))))
    spans = zip(names, itertools.pairwise([*cuts, len(frames)]), strict=True)
    return [Piece(frames[first:stop], name) for name, (first, stop) in spans]


def draw_clips(pieces, groups, rng):
    """Draws the clips of one pass: some as they are, some of other pieces, about as many.

    Args:
        pieces: list of N lists of Piece.
        groups: list of N hashables, the speakers; half of the spliced clips are of the pieces of
            the clip's own speaker alone.
        rng: numpy Generator.

    Returns:
        list of N lists of Piece.
    """
    pools = {}
    for own, group in zip(pieces, groups, strict=True):
        pools.setdefault(group, []).extend(one for one in own if len(one.frames) >= MIN_FRAMES)
    everything = [one for pool in pools.values() for one in pool]
    longest = max(_length(own) for own in pieces)
    clips = []
    for own, group in zip(pieces, groups, strict=True):
        pool = pools[group] if rng.random() < OWN_SHARE else everything
        if not pool or rng.random() >= SPLICED_SHARE:
            clips.append(own)
            continue
        count = max(1, len(own) + rng.integers(-1, 2))
        clip = [pool[index] for index in rng.integers(len(pool), size=count)]
        while len(clip) > 1 and _length(clip) > longest:
            clip.pop()
        clips.append(clip)
    return clips


def _length(clip):
    return sum(len(piece.frames) for piece in clip)


def spliced_batches(
    pieces: Sequence[list[Piece]],
    groups: Sequence[Hashable],
    tokenizer,
    batch_frames: int,
    normalize: bool = True,
    seed=0,
    start: int = 0,
):
    """Makes the dataset of batches of clips that are drawn anew at every pass.

    Args:
        pieces, groups: see `draw_clips`.
        tokenizer: of the texts.
        batch_frames: int, most frames of a batch, padding included.
        normalize: bool, whether a spliced clip's features are normalised, as those of whole clips
            are if LogMel normalises by "utterance".
        seed, start: as in `batching.token_batches`.

    Returns:
        tf.data.Dataset as of `batching.frame_batches`. All passes have as many batches as the
        first draw: of another draw the rest is left out, or what lacks is drawn besides.

    Raises:
        ValueError: if there are no clips, one has no frame, there are not as many groups, or
            `batch_frames` is not positive.
    """
    checks.integer(1, batch_frames=batch_frames)
    checks.require(seed is not None, "must not be None: each pass is drawn", seed=seed)
    if not pieces or not all(map(_length, pieces)):
        raise ValueError("`pieces` must be at least one clip, each of at least one frame.")
    if len(pieces) != len(groups):
        raise ValueError(
            f"`pieces` and `groups` must be as many, got {len(pieces)} and {len(groups)}."
        )
    features = pieces[0][0].frames.shape[1]

    def draw(number):
        rng = batching.pass_rng(seed, number)
        clips = draw_clips(pieces, groups, rng)
        target = batching.tokenize(
            tokenizer, [" ".join(one.text for one in clip) for clip in clips]
        )
        lengths = [_length(clip) for clip in clips]
        batches = batching.plan(lengths, target.row_lengths().numpy(), batch_frames, rng)
        return [(clips, target, rows) for rows in batches]

    def spliced(clip):
        return np.concatenate([piece.frames for piece in clip])

    drawn, count = batching.pass_items(draw, start)

    def read():
        for clips, target, rows in drawn():
            source, mask = batching.padded([spliced(clips[row]) for row in rows])
            yield source, mask, tf.gather(target, rows)

    def gather(source, mask, target):
        if normalize:  # which changes nothing in a whole clip
            source = masking.blank(audio.normalized_utterances(source, mask), mask)
        ids, labels = batching.decoder_ids(target)
        return {"source": source, "source_mask": mask, "target": ids}, labels

    signature = (
        tf.TensorSpec([None, None, features]),
        tf.TensorSpec([None, None], tf.bool),
        tf.RaggedTensorSpec([None, None], tf.int32),
    )
    dataset = tf.data.Dataset.from_generator(read, output_signature=signature)
    dataset = dataset.map(gather, num_parallel_calls=2).prefetch(8)
    return passes.of_length(dataset, count)
