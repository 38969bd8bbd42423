"""Batches for `fit`: teacher-forcing pairs within a budget, and long streams in chunks.

A batch is `({"source": (B, S) ids, "target": (B, T) ids}, labels (B, T))`, where B is the batch, S
the source's steps and T the target's: the decoder reads the target shifted right by the start id
and is to say the labels, which end with the end id. 0 is padding. The source may be features of
speech (B, S, F) or pictures (B, H, W, 3).
"""

from kzoo.batching.buckets import bucketed_batches
from kzoo.batching.by_length import map_by_length
from kzoo.batching.corpus import Corpus, copying_corpus, tokenize
from kzoo.batching.frames import frame_batches, padded
from kzoo.batching.labels import decoder_ids, teacher_forcing
from kzoo.batching.mixture import mixed, repetitions, weighted_repetitions
from kzoo.batching.on_disk import PairsOnDisk, disk_batches
from kzoo.batching.passes import pass_items, pass_rng
from kzoo.batching.pictures import picture_batches
from kzoo.batching.planning import padding_share, plan
from kzoo.batching.streams import stream_chunks
from kzoo.batching.tokens import token_batches

__all__ = [
    "Corpus",
    "PairsOnDisk",
    "bucketed_batches",
    "copying_corpus",
    "decoder_ids",
    "disk_batches",
    "frame_batches",
    "map_by_length",
    "mixed",
    "padded",
    "padding_share",
    "pass_items",
    "pass_rng",
    "picture_batches",
    "plan",
    "repetitions",
    "stream_chunks",
    "teacher_forcing",
    "token_batches",
    "tokenize",
    "weighted_repetitions",
]
