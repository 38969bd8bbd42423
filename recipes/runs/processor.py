"""The processor that a run is measured on, and the precision that it computes in.

with computing_in("auto") as precision:      # of Keras, for the layers that are made in it
    model = ...
print(precision)                             # mixed_bfloat16 (the CPU has amx_bf16)
"""

import contextlib
import functools
import os
import platform
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

CPUINFO = Path("/proc/cpuinfo")  # of Linux
BFLOAT16_FLAGS = ("amx_bf16", "avx512_bf16")  # of x86: oneDNN multiplies bfloat16 faster with each
LEAST_GAIN = 1.5  # times as fast, measured: casting the weights in every step takes some of it
MEASURED_SIDE = 512  # of square matrices; a product is 0.27 GFLOP
MEASURED_PRODUCTS = 8


class Precision(NamedTuple):
    """A Keras dtype policy, and why it was taken."""

    policy: str
    reason: str

    def __str__(self) -> str:
        return f"{self.policy} ({self.reason})"


def choose_precision(name: str) -> Precision:
    """What a `--precision` means: "auto" is mixed_bfloat16 where the CPU multiplies faster in it.

    Flags of the CPU say so, whoever made it: 3 to 4 times as fast as float32 with AMX, twice with
    AVX512-BF16 alone (387 GFLOP/s beside 192, AMD Zen 4), and slower than float32 without both.
    Where the system tells no flags of x86, it is measured, once in a process.
    """
    if name != "auto":
        return Precision(name, "as asked for")
    flags = cpu_values("flags")
    if not flags:
        return _measured_precision()
    found = [flag for flag in BFLOAT16_FLAGS if flag in flags[0].split()]
    if found:
        return Precision("mixed_bfloat16", f"the CPU has {' and '.join(found)}")
    return Precision("float32", f"the CPU has neither {' nor '.join(BFLOAT16_FLAGS)}")


@functools.cache
def _measured_precision() -> Precision:
    seconds = {dtype: product_seconds(dtype) for dtype in ("bfloat16", "float32")}
    is_faster = seconds["float32"] >= LEAST_GAIN * seconds["bfloat16"]
    return Precision(
        "mixed_bfloat16" if is_faster else "float32",
        f"a product of matrices takes {1e3 * seconds['bfloat16']:.1f} ms in bfloat16 and "
        f"{1e3 * seconds['float32']:.1f} ms in float32, measured",
    )


def product_seconds(dtype: str) -> float:
    """Seconds that TensorFlow takes for a product of square matrices, the fastest of some."""
    import tensorflow as tf

    matrix = tf.ones([MEASURED_SIDE, MEASURED_SIDE], dtype)
    times = []
    for _ in range(1 + MEASURED_PRODUCTS):  # the first one prepares
        start = time.perf_counter()
        tf.matmul(matrix, matrix)[0, 0].numpy()  # waits for it
        times.append(time.perf_counter() - start)
    return min(times[1:])


@contextlib.contextmanager
def computing_in(name: str) -> Iterator[Precision]:
    """Layers made inside compute in the precision `name`; the one before comes back in any case."""
    import keras

    precision, before = choose_precision(name), keras.config.dtype_policy()
    print(f"Precision: {precision}", flush=True)
    keras.config.set_dtype_policy(precision.policy)
    try:
        yield precision
    finally:
        keras.config.set_dtype_policy(before)


def machine() -> str:
    """What the numbers of a run were measured on: cores and CPU model."""
    models = cpu_values("model name")
    return f"{os.cpu_count()} cores, {models[0] if models else platform.processor()}"


def cpu_values(name: str) -> list[str]:
    """The value of `name` for each core, if the system tells any."""
    try:
        lines = CPUINFO.read_text(encoding="utf-8").split("\n")
    except OSError:
        return []
    pairs = (line.partition(":") for line in lines)
    return [value.strip() for key, colon, value in pairs if colon and key.strip() == name]
