"""Attention: Bahdanau, Luong, local, monotonic, location-aware, multi-head, and none at all.

Every layer is called as `layer(query, memory, memory_mask) -> (context, weights)`. What depends on
the memory alone is computed once with `keys = layer.project(memory)` and given back as `keys=`. A
decoder runs any of them one step at a time with `initial_state` and `step`.
"""

__all__ = [
    "Attention",
    "BahdanauAttention",
    "FixedContext",
    "LocalAttention",
    "LocationAwareAttention",
    "LuongAttention",
    "MonotonicAttention",
    "MultiHeadAttention",
]
