"""Runnable recipes: `python -m recipes.translation --help`."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # a recipe's user reads its own messages
