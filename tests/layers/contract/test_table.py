"""No public layer is missing in the table."""

import keras
import keras_nlp
from layer_table import CASES

import kzoo

ELSEWHERE = {
    "AudioSource",  # has no weights and gives a ragged tensor: test_signatures
    "ImageAugment",  # take pictures, and have no steps: test_image, test_backbones
    "ImageSource",
    "RegionEncoder",
    "ScheduledSampling",  # has no call: test_scheduled_sampling
    "StatefulRNN",  # answers the same call differently the second time: test_streaming
    "LogMel",  # take samples and lengths: test_audio, test_whisper_mel
    "WhisperMel",
    "RotaryPositions",  # have no call of their own, and are in the cases of attention
    "RelativePositions",
    "AlibiPositions",
}


def test_every_public_layer_is_in_the_table():
    public = {name: getattr(kzoo, name) for name in kzoo.__all__}
    layers = {
        name
        for name, each in public.items()
        if isinstance(each, type)
        and issubclass(each, keras.layers.Layer)
        and not issubclass(each, keras.Model | keras_nlp.tokenizers.Tokenizer)
    }
    assert layers - ELSEWHERE == {name.split()[0] for name in CASES} - {"Residual", "FeedForward"}
