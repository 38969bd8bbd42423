"""The Keras models: Seq2Seq, CTCModel, Ensemble; what they share, and word lists for them."""

__all__ = ["CTCModel", "Ensemble", "Generator", "Lexicon", "Seq2Seq"]
