"""Ensemble: several models that generate as one.

Axis letters: B batch, S source steps, V vocabulary.
"""

import keras
import tensorflow as tf

from kzoo.layers import sharing
from kzoo.models.generator import Generator, SearchStart
from kzoo.search import ensemble_step


@keras.saving.register_keras_serializable("kzoo")
class Ensemble(Generator):
    """p(y | x) = prod_t mean_i p_i(y_t | y_<t, x): the mean of the models' probabilities.

    It generates, samples and is exported as a Seq2Seq is; the models are trained one by one. Their
    attention weights are averaged, so all must shorten a source alike, and so are the lengths they
    expect, if all do.

    Args:
        models: list of Seq2Seq or CTCModel that read and write the same ids: trained with the
            tokenizers of the first, which are the ensemble's.

    Call arguments:
        inputs: as in Seq2Seq.

    Returns:
        List of what each model returns.

    Raises:
        ValueError: there are no models, they begin or end their outputs differently, have different
            prompts or suppressed ids, or some copy words of the source and some do not.

    Example:

    >>> def make():
    ...     embedding = kzoo.TokenEmbedding(20, 8)
    ...     return kzoo.Seq2Seq(
    ...         kzoo.TransformerEncoder(embedding, num_layers=1, num_heads=2, hidden_units=16),
    ...         kzoo.TransformerDecoder(embedding, num_layers=1, num_heads=2, hidden_units=16),
    ...         kzoo.VocabularyHead(20, 8, tied=embedding),
    ...     )
    >>> model = kzoo.Ensemble([make(), make(), make()])
    >>> model.generate(tf.constant([[7, 8, 9, 2]]), beam_size=2, max_length=6).ids.shape
    TensorShape([1, 2, 6])
    """

    def __init__(self, models, **kwargs):
        super().__init__(**kwargs)
        if not models:
            raise ValueError(f"`models` must hold at least one model, got {models!r}.")
        if len(ids := {(model.start_id, model.end_id) for model in models}) > 1:
            raise ValueError(f"`models` must have the same start_id and end_id, got {sorted(ids)}.")
        for name in ("prompt", "suppressed", "suppressed_first"):
            if len(found := {getattr(model, name) for model in models}) > 1:
                raise ValueError(f"`models` must have the same {name}, got {sorted(found)}.")
        if len({model.copies for model in models}) > 1:
            raise ValueError("`models` must all have a copier or none of them, got both.")
        self.models = list(models)
        # What an export asks of a model: its tokenizers, and parts that can tell they are built.
        first = self.models[0]
        self.encoder, self.head = first.encoder, first.head
        self.decoder = first.decoder  # None of CTC
        self.start_id, self.end_id = first.start_id, first.end_id
        self.prompt = first.prompt
        self.suppressed, self.suppressed_first = first.suppressed, first.suppressed_first
        self.source_tokenizer = first.source_tokenizer
        self.target_tokenizer = first.target_tokenizer

    def build(self, inputs_shape):
        """Makes the weights of the models, as theirs does."""
        for model in self.models:
            if not (self._is_in_call or model.has_all_weights):
                model.build(inputs_shape)

    @property
    def has_ctc(self):
        """Whether all models have it, so that they can be asked with one `ctc_weight`."""
        return all(model.has_ctc for model in self.models)

    @property
    def copies(self):
        """Whether all models copy words of the source; then none does not."""
        return self.models[0].copies

    def call(self, inputs, training=False):
        return [model(inputs, training=training) for model in self.models]

    def search_step(
        self, source, max_length, lists=None, ctc_weight=None, copy_ids=None, prompt=None
    ):
        """The step function of a search; see `Generator.search_step`."""
        options = {"copy_ids": copy_ids, "prompt": prompt}
        options = {name: value for name, value in options.items() if value is not None}
        starts = [
            model.search_step(source, max_length, lists, ctc_weight, **options)
            for model in self.models
        ]
        if not self.built:
            self.build(None)  # its models are, by now
        steps, states, start_ids, source_masks, lengths, normalize, _ = zip(*starts, strict=True)
        length = None
        if None not in lengths:
            length = tf.reduce_mean([tf.cast(each, tf.float32) for each in lengths], axis=0)
        step = ensemble_step(steps, normalize)
        # The mean of probabilities needs no softmax, and may not bear one.
        return SearchStart(step, states, start_ids[0], source_masks[0], length, normalize=False)

    @sharing.numbered
    def get_config(self):
        models = [keras.saving.serialize_keras_object(model) for model in self.models]
        return {**super().get_config(), "models": models}

    @classmethod
    @sharing.once()
    def from_config(cls, config, custom_objects=None):
        config = dict(config)
        models = [keras.saving.deserialize_keras_object(model) for model in config.pop("models")]
        return cls(models, **config)
