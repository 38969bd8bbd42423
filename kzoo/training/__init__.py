"""What `fit` is given: losses, optimizers, callbacks, spliced clips."""

from kzoo.training.callbacks import (
    BudgetDecay,
    FiniteLoss,
    Journal,
    TimeBudget,
    ValidationScore,
)
from kzoo.training.checkpoints import Checkpoints
from kzoo.training.distribution import OneDecision
from kzoo.training.kept_weights import BestWeights, LastWeights
from kzoo.training.losses import SequenceAccuracy, SequenceCrossEntropy
from kzoo.training.moving_average import MovingAverage
from kzoo.training.optimizers import FusedAdam, InverseSquareRoot, LazyAdam

__all__ = [
    "BestWeights",
    "BudgetDecay",
    "Checkpoints",
    "FiniteLoss",
    "FusedAdam",
    "InverseSquareRoot",
    "Journal",
    "LastWeights",
    "LazyAdam",
    "MovingAverage",
    "OneDecision",
    "SequenceAccuracy",
    "SequenceCrossEntropy",
    "TimeBudget",
    "ValidationScore",
]
