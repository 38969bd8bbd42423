"""Runs are trained and scored as users run them, with models of few layers."""

import functools

import pytest

from kzoo import zoo

LAYERS = {
    "transformer_tiny": {"num_layers": 1},
    "copying_transformer": {"num_layers": 1},
    "speech_transformer": {"num_layers": 1, "decoder_layers": 1},
    "listen_attend_spell": {"num_layers": 2},
    "streaming_ctc": {"num_layers": 1},
}


@pytest.fixture(autouse=True, scope="module")
def as_users_run_it(graphs_of_users):
    pass


@pytest.fixture(autouse=True, scope="module")
def few_layers():
    """Of what a recipe does not say itself; `tests/test_zoo.py` has them all, `make demo` too."""
    with pytest.MonkeyPatch.context() as patch:
        for name, layers in LAYERS.items():
            patch.setattr(zoo, name, functools.partial(getattr(zoo, name), **layers))
        yield
