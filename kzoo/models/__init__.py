"""The Keras models: Seq2Seq, CTCModel, Ensemble; what they share, and word lists for them."""

from kzoo.models.ctc_model import CTCModel
from kzoo.models.ensemble import Ensemble
from kzoo.models.generator import Generator
from kzoo.models.lexicon import Lexicon
from kzoo.models.scheduled_sampling import ScheduledSampling
from kzoo.models.segmenting import segments
from kzoo.models.seq2seq import Seq2Seq
from kzoo.models.transcription import transcribe
from kzoo.models.windows import Doubts

__all__ = [
    "CTCModel",
    "Doubts",
    "Ensemble",
    "Generator",
    "Lexicon",
    "ScheduledSampling",
    "Seq2Seq",
    "segments",
    "transcribe",
]
