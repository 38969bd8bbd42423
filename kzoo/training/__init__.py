"""What `fit` is given: losses, optimizers, callbacks, spliced clips."""

__all__ = [
    "BestWeights",
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
