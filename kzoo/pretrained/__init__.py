"""Models that other projects have trained, as kzoo models."""
