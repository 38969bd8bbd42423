"""Greedy search, beam search and sampling over a step function; nothing here knows a model."""

__all__ = ["SearchResult", "beam_search", "ensemble_step", "greedy_search", "sample"]
