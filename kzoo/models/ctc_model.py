"""CTCModel: an encoder whose every step names a token or nothing, and no decoder.

Axis letters: B batch, S frames, S' memory steps, V vocabulary, K beams, L longest output, C samples
of a chunk.
"""

import keras
import tensorflow as tf

from kzoo import checks, ctc
from kzoo.layers import sharing
from kzoo.models.generator import SearchStart, no_ctc_weight, stated
from kzoo.models.trainable import Trainable
from kzoo.text import END_ID


@keras.saving.register_keras_serializable("kzoo")
class CTCModel(Trainable):
    """p(y | x) = the sum over all alignments of y of prod_t softmax(head(encoder(x)_t))[name_t].

    Graves et al. (2006), https://doi.org/10.1145/1143844.1143891; see `ctc`. Train it with plain
    `compile` and `fit` on the batches that a Seq2Seq takes; the loss is built in. With an encoder
    that has a `step`, such as StreamingEncoder, it also answers live audio.

    Args:
        encoder: layer, `encoder(source) -> (memory, memory_mask, ...)`. Your own must state its
            `stride` and whether it `can_stream`: has `initial_state` and `step` for live audio.
        head: VocabularyHead on the memory; id 0 is the blank.
        source_tokenizer: AudioSource, or None. `export.save` needs it.
        target_tokenizer: target ids <-> strings, or None. `export.save` needs it.
        window: int, most tokens in which the hypotheses of a search may differ, or None; see
            `ctc.ctc_advance`. For live audio set one, as the state grows without.
        end_id: int, what the labels end with, which CTC does without, and what ends an output of
            `sample` and of an Ensemble; kzoo's tokenizers and `batching` have 2.

    Call arguments:
        inputs: dict of "source" (B, S, F) features, dense or ragged. Dense ones may come with a
            "source_mask" (B, S) bool. "target", which a decoder would read, is not.

    Returns:
        dict of "ctc_logits" (B, S', V) and "memory_mask" (B, S').

    Example:

    >>> head = kzoo.VocabularyHead(20, 8)
    >>> model = kzoo.CTCModel(kzoo.StreamingEncoder(units=8, stride=2), head)
    >>> model.compile(keras.optimizers.Adam(1e-3))
    >>> frames, labels = tf.ones((1, 9, 5)), tf.constant([[9, 8, 2]])
    >>> history = model.fit({"source": frames}, labels, verbose=0)
    >>> model.generate(frames, beam_size=3).scores.shape
    TensorShape([1, 3])
    """

    trains_ctc = True

    def __init__(
        self,
        encoder,
        head,
        source_tokenizer=None,
        target_tokenizer=None,
        window=None,
        end_id=END_ID,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.encoder = encoder
        self.head = head
        self.source_tokenizer = source_tokenizer
        self.target_tokenizer = target_tokenizer
        self.window = window
        checks.integer(1, end_id=end_id)
        self.end_id = end_id
        self.hand_on_trainable()
        self.own_metrics = {
            "ctc_loss": keras.metrics.Mean(name="loss"),
            "infeasible": keras.metrics.Sum(name="infeasible"),
        }

    needed_inputs = ("source",)
    decoder = None
    takes_prefix = False

    @property
    def can_stream(self):
        """Whether `stream` answers live audio: the encoder must not look ahead, nor the source."""
        source = self.source_tokenizer
        return source is not None and source.can_stream and stated(self.encoder, "can_stream")

    def compile(self, *args, metrics=None, weighted_metrics=None, **kwargs):
        """As of Trainable, without metrics: no step of CTC has one label.

        Raises:
            ValueError: if there are any.
        """
        for name, value in (("metrics", metrics), ("weighted_metrics", weighted_metrics)):
            checks.require(not value, "must be None: no step of CTC has one label", **{name: value})
        super().compile(*args, **kwargs)

    def call(self, inputs, training=False):
        memory, memory_mask, *_ = self.encoder(
            inputs["source"], source_mask=inputs.get("source_mask"), training=training
        )
        return {"ctc_logits": self.head(memory), "memory_mask": memory_mask}

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """CTC's loss in nats per token, the end included though CTC does not have it.

        Rows with too few memory steps for their labels are left out; "infeasible" among the metrics
        counts them.

        Args:
            x: unused.
            y: (B, T) int labels, dense or ragged; with or without the end id.
            y_pred: what `call` returned.
            sample_weight: None, (B,) or (B, T), multiplies the loss and count of each token.
            training: bool, unused.

        Returns:
            Scalar float32.
        """
        labels, count = self.label_weights(y, sample_weight)
        loss = self.ctc_loss(labels, count, y_pred["ctc_logits"], y_pred["memory_mask"])
        return loss + self.added_losses()

    def search_step(self, source, max_length, lists=None, ctc_weight=None):
        """The step function of CTC's prefix probabilities; see `Generator.search_step`.

        `sample` and an Ensemble search by it, token by token.
        """
        if lists is not None:
            raise ValueError("`lexicon` needs a model with a decoder, got one of CTC alone.")
        no_ctc_weight(ctc_weight)
        outputs = self({"source": source})
        step, state = ctc.prefix_step(outputs["ctc_logits"], outputs["memory_mask"], self.end_id)
        mask = outputs["memory_mask"]
        start_ids = tf.fill([tf.shape(mask)[0]], self.start_id)
        return SearchStart(step, state, start_ids, mask, None, normalize=False)

    def generate(
        self, source, *, beam_size=4, max_length=None, length_penalty=0.0, best_only=False
    ):
        """Decodes frame by frame, with prefix beam search.

        Args:
            source: (B, S, F) features, dense or ragged.
            beam_size: int, K.
            max_length: int or scalar tensor, most tokens of an output; the rest is cut off after
                the search, and scores are those of the whole. None for no such limit.
            length_penalty: float, exponent of the GNMT length penalty, which ranks the K at the
                end.
            best_only: bool, whether to return the first hypothesis alone.

        Returns:
            `search.SearchResult`; see `ctc.ctc_result`. No end token among its ids.
        """
        outputs = self({"source": source})
        found = ctc.ctc_beam_search(
            outputs["ctc_logits"],
            outputs["memory_mask"],
            beam_size=beam_size,
            length_penalty=length_penalty,
            window=self.window,
            best_only=best_only,
        )
        if max_length is not None:
            found = found._replace(
                ids=found.ids[:, :, :max_length],
                lengths=tf.minimum(found.lengths, max_length),
                weights=found.weights[:, :, :max_length],
            )
        return found

    def initial_state(self, rows, beam_size):
        """Returns what `stream` starts from: a nested dict of tensors, for so many streams."""
        return {
            "source": self.source_tokenizer.initial_state(rows),
            "encoder": self.encoder.initial_state(rows),
            "beams": ctc.ctc_beams(rows, beam_size)._asdict(),
        }

    def stream(self, audio, state, length_penalty=0.0):
        """Takes up streams where the state says; chunks of any length say what the whole says.

        Args:
            audio: (B, C) float, the next samples of streams that have had equally many; C may be 0.
            state: as `initial_state` or `stream` returned it.
            length_penalty: float, of `generate`.

        Returns:
            `search.SearchResult` of all so far, with no steps in its weights, which would grow with
            every chunk. state: for the next chunk.
        """
        frames, source = self.source_tokenizer.step(audio, state["source"])
        memory, encoder = self.encoder.step(frames, state["encoder"])
        beams = ctc.CTCBeams(**state["beams"])
        beams = ctc.ctc_advance(self.head(memory), beams, window=self.window)
        state = {"source": source, "encoder": encoder, "beams": beams._asdict()}
        return ctc.ctc_result(beams, length_penalty, steps=0), state

    @sharing.numbered
    def get_config(self):
        parts = ("encoder", "head", "source_tokenizer", "target_tokenizer")
        config = {name: sharing.serialize(getattr(self, name)) for name in parts}
        return {**super().get_config(), **config, "window": self.window, "end_id": self.end_id}
