"""Greedy search, beam search and sampling over a step function; nothing here knows a model."""

from kzoo.search.beam import beam_search, greedy_search
from kzoo.search.result import SearchResult
from kzoo.search.sampling import sample
from kzoo.search.steps import ensemble_step
from kzoo.search.times import Times

__all__ = ["SearchResult", "Times", "beam_search", "ensemble_step", "greedy_search", "sample"]
