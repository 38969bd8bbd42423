"""Runnable recipes: `python -m recipes.translation --help`."""
