"""What `fit` is given: losses, optimizers, callbacks, spliced clips."""

from kzoo.training.callbacks import (
    BestWeights,
    BudgetDecay,
    FiniteLoss,
    Journal,
    LastWeights,
    TimeBudget,
    ValidationScore,
)
from kzoo.training.checkpoints import Checkpoints
from kzoo.training.losses import SequenceAccuracy, SequenceCrossEntropy
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
    "SequenceAccuracy",
    "SequenceCrossEntropy",
    "TimeBudget",
    "ValidationScore",
]
