"""Attention: Bahdanau, Luong, local, monotonic, location-aware, coverage, multi-head, and none.

Every layer is called as `layer(query, memory, memory_mask) -> (context, weights)`. What depends on
the memory alone is computed once with `keys = layer.project(memory)` and given back as `keys=`. A
decoder runs any of them one step at a time with `initial_state` and `step`.
"""

from kzoo.layers.attention.additive import BahdanauAttention
from kzoo.layers.attention.contract import Attention
from kzoo.layers.attention.coverage import CoverageAttention
from kzoo.layers.attention.fixed import FixedContext
from kzoo.layers.attention.location import LocationAwareAttention
from kzoo.layers.attention.luong import LocalAttention, LuongAttention
from kzoo.layers.attention.monotonic import MonotonicAttention
from kzoo.layers.attention.multi_head import MultiHeadAttention

__all__ = [
    "Attention",
    "BahdanauAttention",
    "CoverageAttention",
    "FixedContext",
    "LocalAttention",
    "LocationAwareAttention",
    "LuongAttention",
    "MonotonicAttention",
    "MultiHeadAttention",
]
