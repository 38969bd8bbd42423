"""WAV bytes -> samples -> log-mel frames, in the graph."""

__all__ = [
    "MAX_RATE_HZ",
    "MIN_RATE_HZ",
    "AudioSource",
    "LogMel",
    "SpecAugment",
    "VocalTractPerturbation",
    "decode_batch",
    "decode_wav",
    "mel_edges",
    "mel_filters",
    "normalized_utterances",
    "perturb_speed",
    "resample",
]
