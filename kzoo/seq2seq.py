"""Seq2Seq: encoder + decoder + head, one Keras model for all of kzoo.

Axis letters: B batch, T target steps, S source steps, D features, V vocabulary, K beams,
L longest output, P prefix.
"""

import keras
import tensorflow as tf

from kzoo import batching, ctc, joint, sampling, search
from kzoo.layers import masking, sharing
from kzoo.text import END_ID, START_ID


class Generator(keras.Model):
    """What generates: search and sampling over the step function that a child gives.

    A child has `search_step`, `source_tokenizer` and `target_tokenizer`.
    """

    can_stream = False  # whether there is a `stream` for live audio

    @property
    def encoder_stride(self):
        """Source steps from one memory step to the next."""
        return getattr(self.encoder, "stride", 1)

    @property
    def normalize(self):
        """Whether the logits of `search_step` are normalised by a softmax; else they are log p."""
        return True

    def search_step(self, source, max_length):
        """Encodes the source once for a search.

        Args:
            source: (B, S) ids or (B, S, F) features, dense or ragged.
            max_length: int or scalar tensor, L, or None for a state that grows step by step.

        Returns:
            step: function, see `steps`. state: what it starts from, B rows. source_mask: (B, S')
            bool, the real steps among those its weights are about.
        """
        raise NotImplementedError

    def generate(
        self,
        source,
        *,
        beam_size=4,
        max_length=128,
        min_length=0,
        length_penalty=0.6,
        coverage_penalty=0.0,
        expected_length=None,
        length_deviation_penalty=0.0,
        no_repeat_ngram=0,
        repetition_penalty=1.0,
        prefix=None,
        allowed=None,
        groups=1,
        diversity_penalty=0.0,
        best_only=False,
        static_shapes=False,
    ):
        """Decodes with beam search; greedily with `beam_size=1`.

        Args:
            source: (B, S) ids or (B, S, F) features, dense or ragged.
            beam_size: int, K.
            max_length: int or scalar tensor, L, most tokens of an output, the end token included.
            min_length: int, fewest tokens before the end token.
            length_penalty: float, exponent of the GNMT length penalty.
            coverage_penalty: float, of GNMT, for source steps that no token looked at.
            expected_length: (B,) float, tokens without the end, or None; see `LengthHead`.
            length_deviation_penalty: float, per token of deviation from `expected_length`.
            no_repeat_ngram: int, n: no n-gram occurs twice in an output; 0 for no such rule.
            repetition_penalty: float, above 1 against tokens that occurred already.
            prefix: (B, P) int, padded with 0 or ragged, or (P,): the ids an output begins with.
            allowed: (V,) or (B, V) bool, False for ids never to be generated.
            groups: int that divides K: diverse beam search in as many groups.
            diversity_penalty: float, between groups.
            best_only: bool, whether to return the first hypothesis alone, which may end the search
                earlier.
            static_shapes: bool, whether a step costs what the longest output would, so that XLA
                can compile it. Otherwise, in a graph, it costs what was generated so far.

            `search.beam_search` says precisely what each does.

        Returns:
            `search.SearchResult`: ids (B, K, L), scores, log_probs, lengths (B, K),
            weights (B, K, L, S).
        """
        may_grow = not (static_shapes or tf.executing_eagerly())
        step, state, source_mask = self.search_step(source, None if may_grow else max_length)
        return search.beam_search(
            step,
            state,
            self._start_ids(source_mask),
            end_id=END_ID,
            beam_size=beam_size,
            max_length=max_length,
            min_length=min_length,
            length_penalty=length_penalty,
            coverage_penalty=coverage_penalty,
            source_mask=source_mask,
            expected_length=expected_length,
            length_deviation_penalty=length_deviation_penalty,
            no_repeat_ngram=no_repeat_ngram,
            repetition_penalty=repetition_penalty,
            prefix=prefix,
            allowed=allowed,
            groups=groups,
            diversity_penalty=diversity_penalty,
            best_only=best_only,
            normalize=self.normalize,
        )

    def sample(
        self,
        source,
        *,
        num_samples=1,
        max_length=128,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        seed=None,
        min_length=0,
        length_penalty=0.6,
        no_repeat_ngram=0,
        repetition_penalty=1.0,
        prefix=None,
        allowed=None,
    ):
        """Draws outputs instead of searching for the best.

        Args:
            source: (B, S) ids or (B, S, F) features, dense or ragged.
            num_samples: int, K.
            temperature: float, below 1 for more of the probable tokens.
            top_k: int, most tokens to choose from at a step; 0 for all.
            top_p: float in (0, 1], probability of the tokens to choose from.
            seed: int or int32 scalar: the same seed, the same samples; None for others every time.
            max_length, min_length, length_penalty, no_repeat_ngram, repetition_penalty, prefix,
                allowed: as in `generate`.

            `sampling.sample` says precisely what each does.

        Returns:
            `search.SearchResult` of K samples in the order drawn.
        """
        step, state, source_mask = self.search_step(source, max_length)
        return sampling.sample(
            step,
            state,
            self._start_ids(source_mask),
            end_id=END_ID,
            max_length=max_length,
            num_samples=num_samples,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            seed=seed,
            min_length=min_length,
            length_penalty=length_penalty,
            no_repeat_ngram=no_repeat_ngram,
            repetition_penalty=repetition_penalty,
            prefix=prefix,
            allowed=allowed,
        )

    def _start_ids(self, source_mask):
        return tf.fill([tf.shape(source_mask)[0]], START_ID)

    def source_ids(self, texts, max_source_length):
        """Tokenizes source texts in graph: at most so many tokens, then the end id.

        Args:
            texts: (N,) string.
            max_source_length: int, most tokens, the end not counted; the rest is cut off.

        Returns:
            (N, S) int32, padded.
        """
        return self.source_tokenizer.read(texts, max_source_length)[0]

    def text_generator(self, *, batch_size=64, max_source_length=256, **options):
        """Returns a function from source texts to the best target texts.

        One text in, one answer out; a list in, a list out. The function is compiled once and always
        uses the model's current weights.

        Args:
            batch_size: int, texts decoded at once; texts of like length go together.
            max_source_length: int, most tokens of a source; the rest is cut off.
            **options: of `generate`; `best_only` is True unless it is among them.
        """
        options = {"best_only": True, **options}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
        def best(texts):
            result = self.generate(self.source_ids(texts, max_source_length), **options)
            return self.target_tokenizer.detokenize(result.ids[:, 0])

        def answer(texts):
            return [text.decode() for text in best(tf.constant(texts, tf.string)).numpy()]

        def generate(texts):
            if isinstance(texts, str | bytes):
                return answer([texts])[0]
            return batching.map_by_length(answer, texts, batch_size)

        return generate


class Trainable(Generator):
    """A generator with its loss built in.

    A child has `call`, `compute_loss`, `get_config` and `own_metrics`, a dict of metrics by name.
    """

    def build(self, inputs_shape):
        # Nothing to do: the layers build themselves when they are called.
        pass

    def compile(self, optimizer="adam", loss=None, jit_compile=False, **kwargs):
        """Like `keras.Model.compile`, with the loss built in and XLA off unless asked for.

        Raises:
            ValueError: if a `loss` is given.
        """
        if loss is not None:
            name = type(self).__name__
            raise ValueError(f"`loss` must be None: {name} has its own, got loss={loss!r}.")
        super().compile(optimizer=optimizer, jit_compile=jit_compile, **kwargs)

    def compile_from_config(self, config):
        """Compiles a loaded model; Keras leaves that to a model with its own `compile`."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)

    def label_weights(self, y, sample_weight=None):
        """Labels (B, T) as a dense tensor and the weight of each: 0 for padding."""
        labels, real = masking.to_dense(y)
        count = tf.cast(real & (labels != 0), tf.float32)
        if sample_weight is not None:
            weight = tf.cast(sample_weight, tf.float32)
            count *= weight[:, None] if weight.shape.rank == 1 else weight
        return labels, count

    def ctc_loss(self, labels, count, logits, mask):
        """CTC's loss in nats per token of the rows that it is feasible for; updates the metrics.

        Args:
            labels: (B, T) int, with the end, padded with 0.
            count: (B, T) float32, weight of each label, 0 for padding.
            logits: (B, S, V), of CTC. mask: (B, S) bool.

        Returns:
            Scalar float32.
        """
        tokens = tf.where(labels == END_ID, 0, labels)
        losses, is_feasible = ctc.ctc_loss(tokens, logits, mask)
        real = tf.reduce_sum(tf.cast(labels != 0, tf.float32), 1)
        counts = tf.where(is_feasible, tf.reduce_sum(count, 1), 0.0)  # (B,)
        weights = tf.math.divide_no_nan(counts, real)
        total = tf.reduce_sum(counts)
        loss = tf.math.divide_no_nan(tf.reduce_sum(losses * weights), total)
        self.own_metrics["ctc_loss"].update_state(loss, total)
        missing = tf.reduce_sum(tf.cast(~is_feasible, tf.float32))
        self.own_metrics["infeasible"].update_state(missing)
        return loss

    @property
    def metrics(self):
        """Keras's own "loss" weighs each batch by its rows; these weigh it by its tokens."""
        own = list(self.own_metrics.values())
        return [*own, *(m for m in super().metrics if m.name != "loss" and m not in own)]

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = {
            name: keras.saving.deserialize_keras_object(value) if isinstance(value, dict) else value
            for name, value in config.items()
        }
        return cls(**config)


@keras.saving.register_keras_serializable("kzoo")
class Seq2Seq(Trainable):
    """p(y | x) = prod_t softmax(head(decoder(y_<t, encoder(x))))[y_t].

    Train it with plain `compile` and `fit`; the loss is built in. With a CTC head on the memory it
    is that of Watanabe et al. (2017), https://doi.org/10.1109/JSTSP.2017.2763455, equation 39, and
    the search, too, has CTC's opinion (`joint.joint_step`):

        loss = (1 - ctc_weight) cross-entropy + ctc_weight CTC

    Args:
        encoder: layer, `encoder(source) -> (memory, memory_mask, ...)`.
        decoder: layer with `call`, `prepare`, `initial_state` and `step`; see `zoo`.
        head: VocabularyHead.
        source_tokenizer: strings -> source ids, or for speech an AudioSource; or None.
            `export.save` needs it.
        target_tokenizer: target ids <-> strings, or None. `export.save` needs it.
        ctc_head: VocabularyHead on the memory, with the blank as id 0, or None.
        ctc_weight: float in [0, 1], of CTC in the loss and in the search. The attribute may be set
            between training and search, before a function is traced: 0 searches by attention
            alone, 1 by CTC alone.

    Call arguments:
        inputs: dict of "source" (B, S) ids or (B, S, F) features, and "target" (B, T) ids that
            begin with the start id; each dense or ragged. Dense features may come with a
            "source_mask" (B, S) bool.

    Returns:
        dict of "logits" (B, T, V), "weights" (B, T, S) and "hidden" (B, T, D), with a CTC head also
        "ctc_logits" (B, S', V) and "memory_mask" (B, S'). `compute_loss` reads "hidden"; in a
        graph, logits that nobody reads cost nothing.

    Raises:
        ValueError: if `ctc_weight` is outside [0, 1].

    Example:

    >>> embedding = kzoo.TokenEmbedding(20, 8)
    >>> model = kzoo.Seq2Seq(
    ...     kzoo.TransformerEncoder(embedding, num_layers=1, num_heads=2, hidden_units=16),
    ...     kzoo.TransformerDecoder(embedding, num_layers=1, num_heads=2, hidden_units=16),
    ...     kzoo.VocabularyHead(20, 8, tied=embedding),
    ... )
    >>> model.compile(keras.optimizers.Adam(1e-3))
    >>> source, target = tf.constant([[7, 8, 9, 2]]), tf.constant([[9, 8, 7, 2]])
    >>> shifted = tf.constant([[1, 9, 8, 7]])  # teacher forcing; see kzoo.batching
    >>> history = model.fit({"source": source, "target": shifted}, target, verbose=0)
    >>> model.generate(source, beam_size=2, max_length=6).ids.shape
    TensorShape([1, 2, 6])
    """

    def __init__(
        self,
        encoder,
        decoder,
        head,
        source_tokenizer=None,
        target_tokenizer=None,
        ctc_head=None,
        ctc_weight=0.3,
        **kwargs,
    ):
        super().__init__(**kwargs)
        joint.check_ctc_weight(ctc_weight)
        self.encoder = encoder
        self.decoder = decoder
        self.head = head
        self.source_tokenizer = source_tokenizer
        self.target_tokenizer = target_tokenizer
        self.ctc_head = ctc_head
        self.ctc_weight = ctc_weight
        names = ["loss"] if ctc_head is None else ["loss", "attention_loss", "ctc_loss"]
        self.own_metrics = {name: keras.metrics.Mean(name=name) for name in names}
        if ctc_head is not None:
            self.own_metrics["infeasible"] = keras.metrics.Sum(name="infeasible")

    @property
    def normalize(self):
        """See `Generator`: what joins two probabilities does not sum to 1."""
        return not self._is_joint

    @property
    def _is_joint(self):
        return self.ctc_head is not None and self.ctc_weight > 0

    def call(self, inputs, training=False):
        memory, memory_mask, *_ = self.encoder(
            inputs["source"], source_mask=inputs.get("source_mask"), training=training
        )
        hidden, weights = self.decoder(
            inputs["target"], memory, memory_mask=memory_mask, training=training
        )
        outputs = {"logits": self.head(hidden), "weights": weights, "hidden": hidden}
        if self.ctc_head is not None:
            outputs |= {"ctc_logits": self.ctc_head(memory), "memory_mask": memory_mask}
        return outputs

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Mean cross-entropy in nats per real token: labels with id 0 do not count.

        With a CTC head, the weighted mean of it and of CTC's loss, in nats per token as well, the
        end included though CTC does not have it. Rows with too few memory steps for their labels
        are left out of the latter; "infeasible" among the metrics counts them.

        Args:
            x: unused.
            y: (B, T) int labels, dense or ragged.
            y_pred: what `call` returned.
            sample_weight: None, (B,) or (B, T), multiplies the loss and count of each token.
            training: bool; smoothed labels in `fit`, plain cross-entropy in `evaluate`.

        Returns:
            Scalar float32.
        """
        labels, count = self.label_weights(y, sample_weight)
        hidden = y_pred["hidden"]
        rows = tf.reshape(hidden, (-1, hidden.shape[-1]))
        losses = self.head.loss(rows, tf.reshape(labels, [-1]), training=training)
        losses = tf.where(tf.reshape(count, [-1]) > 0, losses, 0.0)
        loss = tf.math.divide_no_nan(
            tf.reduce_sum(losses * tf.reshape(count, [-1])), tf.reduce_sum(count)
        )
        if self.ctc_head is not None:
            self.own_metrics["attention_loss"].update_state(loss, tf.reduce_sum(count))
            ctc_loss = self.ctc_loss(labels, count, y_pred["ctc_logits"], y_pred["memory_mask"])
            loss = (1 - self.ctc_weight) * loss + self.ctc_weight * ctc_loss
        self.own_metrics["loss"].update_state(loss, tf.reduce_sum(count))
        if self.losses:
            loss += tf.add_n([tf.cast(term, tf.float32) for term in self.losses])
        return loss

    def prepare(self, source):
        """Encodes the source once for a search.

        Args:
            source: (B, S) ids or (B, S, F) features, dense or ragged.

        Returns:
            What the decoder's steps read, B rows.
        """
        return self.decoder.prepare(*self._encode(source))

    def _encode(self, source):
        """Source -> memory and its mask; builds a decoder that was not called yet."""
        memory, memory_mask, *_ = self.encoder(source, training=False)
        if not self.decoder.built:
            self.decoder(
                tf.fill([tf.shape(memory)[0], 1], START_ID), memory, memory_mask=memory_mask
            )
        return memory, memory_mask

    def search_step(self, source, max_length):
        """The step function of a search; see `Generator.search_step`."""
        memory, memory_mask = self._encode(source)
        prepared = self.decoder.prepare(memory, memory_mask)

        def step(ids, state, position):
            hidden, weights, state = self.decoder.step(ids, state, position, prepared)
            return self.head(hidden), weights, state

        state = self.decoder.initial_state(prepared, max_length)
        if self._is_joint:
            step, state = joint.joint_step(
                step,
                state,
                self.ctc_head(memory),
                memory_mask,
                end_id=END_ID,
                ctc_weight=self.ctc_weight,
            )
        return step, state, memory_mask

    def get_config(self):
        parts = ("encoder", "decoder", "head", "source_tokenizer", "target_tokenizer", "ctc_head")
        config = {name: sharing.serialize(getattr(self, name)) for name in parts}
        return {**super().get_config(), **config, "ctc_weight": self.ctc_weight}
