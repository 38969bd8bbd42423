"""A folder of two models of texts, and what `kzoo.load` makes of them."""

import pytest
from served_folder import written_models

from kzoo import export


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return written_models(tmp_path_factory.mktemp("saved_models"))


@pytest.fixture(scope="session")
def served(folder):
    return {
        "rnn": export.load(folder / "rnn" / "2"),
        "transformer": export.load(folder / "transformer"),
    }
