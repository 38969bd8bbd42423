"""Runs are trained and scored as users run them."""

import pytest


@pytest.fixture(autouse=True, scope="module")
def as_users_run_it(graphs_of_users):
    pass
