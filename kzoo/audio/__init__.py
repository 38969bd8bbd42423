"""WAV bytes -> samples -> log-mel frames, in the graph."""

from kzoo.audio.augment import SpecAugment, VocalTractPerturbation, perturb_speed
from kzoo.audio.log_mel import LogMel, mel_edges, mel_filters, normalized_utterances
from kzoo.audio.resampling import resample
from kzoo.audio.source import AudioSource
from kzoo.audio.wav import MAX_RATE_HZ, MIN_RATE_HZ, decode_batch, decode_wav
from kzoo.audio.whisper_mel import WhisperMel

__all__ = [
    "MAX_RATE_HZ",
    "MIN_RATE_HZ",
    "AudioSource",
    "LogMel",
    "SpecAugment",
    "VocalTractPerturbation",
    "WhisperMel",
    "decode_batch",
    "decode_wav",
    "mel_edges",
    "mel_filters",
    "normalized_utterances",
    "perturb_speed",
    "resample",
]
