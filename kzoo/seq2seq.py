"""Seq2Seq: encoder + decoder + head, one Keras model for all of kzoo.

Axis letters: B batch, T target steps, S source steps, D features, V vocabulary, K beams,
L longest output, P prefix.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from kzoo import batching, ctc, search
from kzoo.ctc import joint
from kzoo.layers import masking, sharing
from kzoo.text import END_ID, START_ID, UNKNOWN_ID

# Adam's step does not depend on it, and the norm that gradients are clipped by hardly does.
LENGTH_LOSS_WEIGHT = 0.01


class SearchStart(NamedTuple):
    """What a search over one batch of sources starts from."""

    step: Callable  # see `steps`
    state: Any  # nested structure of tensors, B rows
    source_mask: tf.Tensor  # (B, S') bool, the real steps among those the weights are about
    expected_length: tf.Tensor | None  # (B,) float, from the model's length head


class Generator(keras.Model):
    """What generates: search and sampling over the step function that a child gives.

    A child has `search_step`, `source_tokenizer` and `target_tokenizer`.
    """

    can_stream = False  # whether there is a `stream` for live audio
    takes_prefix = True  # whether `generate` can be told what an output begins with

    @property
    def encoder_stride(self):
        """Source steps from one memory step to the next."""
        return getattr(self.encoder, "stride", 1)

    @property
    def normalize(self):
        """Whether the logits of `search_step` are normalised by a softmax; else they are log p."""
        return True

    def search_step(self, source, max_length, lists=None):
        """Encodes the source once for a search.

        Args:
            source: (B, S) ids or (B, S, F) features, dense or ragged.
            max_length: int or scalar tensor, L, or None for a state that grows step by step.
            lists: `head.CandidateLists`, whose words the step calls 0 to C - 1; or None for all.

        Returns:
            `SearchStart`.
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
        lexicon=None,
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
            expected_length: (B,) float, tokens without the end, or None for what the model's
                `length_head` expects.
            length_deviation_penalty: float, per token of deviation from the expected length.
            no_repeat_ngram: int, n: no n-gram occurs twice in an output; 0 for no such rule.
            repetition_penalty: float, above 1 against tokens that occurred already.
            prefix: (B, P) int, padded with 0 or ragged, or (P,): the ids an output begins with.
            allowed: (V,) or (B, V) bool, False for ids never to be generated.
            groups: int that divides K: diverse beam search in as many groups.
            diversity_penalty: float, between groups.
            best_only: bool, whether to return the first hypothesis alone, which may end the search
                earlier.
            lexicon: `lexicon.Lexicon` that says which words an answer may hold, or None for all.
            static_shapes: bool, whether a step costs what the longest output would, so that XLA
                can compile it. Otherwise, in a graph, it costs what was generated so far.

            `search.beam_search` says precisely what each does.

        Returns:
            `search.SearchResult`: ids (B, K, L), scores, log_probs, lengths (B, K),
            weights (B, K, L, S), step_log_probs (B, K, L).

        Raises:
            ValueError: there is a `length_deviation_penalty`, but no length to deviate from; the
                `lexicon` is for other vocabularies, or comes with a `prefix` or with CTC; or what
                `search.beam_search` refuses.
        """
        lists = None
        if lexicon is not None:
            if prefix is not None:
                raise ValueError(f"`prefix` must be None with a lexicon, got {prefix!r}.")
            lexicon.check(self.source_tokenizer, self.head)
            lists = lexicon.lists(source)
            if allowed is not None:
                batch_dims = tf.convert_to_tensor(allowed).shape.rank - 1
                allowed = tf.gather(allowed, lists.ids, axis=-1, batch_dims=batch_dims)
        may_grow = not (static_shapes or tf.executing_eagerly())
        start = self.search_step(source, None if may_grow else max_length, lists)
        if length_deviation_penalty and expected_length is None:
            expected_length = start.expected_length
            if expected_length is None:
                raise ValueError(
                    "`length_deviation_penalty` needs an `expected_length` or a model with a "
                    f"`length_head`, got length_deviation_penalty={length_deviation_penalty}."
                )
        found = search.beam_search(
            start.step,
            start.state,
            self._start_ids(start.source_mask),
            end_id=END_ID,
            beam_size=beam_size,
            max_length=max_length,
            min_length=min_length,
            length_penalty=length_penalty,
            coverage_penalty=coverage_penalty,
            source_mask=start.source_mask,
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
        if lists is None:
            return found
        return found._replace(ids=tf.gather(lists.ids, found.ids, batch_dims=1))

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
        start = self.search_step(source, max_length)
        return search.sample(
            start.step,
            start.state,
            self._start_ids(start.source_mask),
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

    def target_texts(self, ids, source_texts=None, steps=None):
        """Target ids to texts in graph; unknown words can be replaced by source words.

        Jean et al. (2015), https://arxiv.org/abs/1412.2007, section 4.1, and Luong et al. (2015),
        https://arxiv.org/abs/1410.8206: what a model without a word for it looked at is most often
        a name or a number, which is the same in both languages.

        Args:
            ids: (N, L) int32.
            source_texts: (N,) string, or None to write "⁇" for an unknown word. Both tokenizers
                must be of words, or both of characters.
            steps: (N, L) int32, the source step of each id, see `looked_at`.

        Returns:
            (N,) string.

        Raises:
            ValueError: a tokenizer is of subwords, or they are of different kinds.
        """
        if source_texts is None:
            return self.target_tokenizer.detokenize(ids)
        kinds = [type(each) for each in (self.source_tokenizer, self.target_tokenizer)]
        if kinds[0] is not kinds[1] or not hasattr(kinds[0], "split"):
            names = " and a ".join(kind.__name__ for kind in kinds)
            raise ValueError(
                "`replace_unknown` needs two tokenizers of words or two of characters, "
                f"got a {names}."
            )
        words = self.source_tokenizer.split(source_texts)
        words = tf.concat([words, tf.fill([words.nrows(), 1], "")], 1).to_tensor()
        copied = tf.gather(words, tf.where(ids == UNKNOWN_ID, steps, 0), batch_dims=1)
        return self.target_tokenizer.detokenize(ids, unknown=copied)

    def text_generator(
        self, *, batch_size=64, max_source_length=256, replace_unknown=False, **options
    ):
        """Returns a function from source texts to the best target texts.

        One text in, one answer out; a list in, a list out. The function is compiled once and always
        uses the model's current weights.

        Args:
            batch_size: int, texts decoded at once; texts of like length go together.
            max_source_length: int, most tokens of a source; the rest is cut off.
            replace_unknown: bool, whether an unknown word becomes the source word that it looked
                at most; see `target_texts`.
            **options: of `generate`; `best_only` is True unless it is among them.
        """
        options = {"best_only": True, **options}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
        def best(texts):
            source = self.source_ids(texts, max_source_length)
            result = self.generate(source, **options)
            if not replace_unknown:
                return self.target_texts(result.ids[:, 0])
            steps = looked_at(result.weights[:, 0], source)
            return self.target_texts(result.ids[:, 0], texts, steps)

        def answer(texts):
            return [text.decode() for text in best(tf.constant(texts, tf.string)).numpy()]

        def generate(texts):
            if isinstance(texts, str | bytes):
                return answer([texts])[0]
            return batching.map_by_length(answer, texts, batch_size)

        return generate


def looked_at(weights, source):
    """The source word with the largest attention weight, for each target step.

    Args:
        weights: (N, L, S) float32.
        source: (N, S) ids; the end and the padding are no words.

    Returns:
        (N, L) int32.

    Raises:
        ValueError: the weights are not about the source ids, as those of a model without attention.
    """
    if not weights.shape[2:].is_compatible_with(source.shape[1:]):
        raise ValueError(
            "`replace_unknown` needs a model whose attention weights are about its source ids, "
            f"got weights for {weights.shape[2]} steps."
        )
    is_word = (source != END_ID) & (source != 0)
    return tf.argmax(tf.where(is_word[:, None, :], weights, -1.0), 2, tf.int32)


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

    Attention can be asked to look everywhere, to every step s about as often: doubly stochastic
    attention, Xu et al. (2015), https://arxiv.org/abs/1502.03044, equation 14, adds

        doubly_stochastic sum_s (1 - sum_t weights_ts)^2

    Args:
        encoder: layer, `encoder(source) -> (memory, memory_mask, ...)`.
        decoder: layer with `call`, `prepare`, `initial_state` and `step`; see `zoo`.
        head: VocabularyHead.
        source_tokenizer: strings -> source ids, or an AudioSource or ImageSource; or None.
            `export.save` needs it.
        target_tokenizer: target ids <-> strings, or None. `export.save` needs it.
        length_head: LengthHead or None. `fit` trains it on the lengths of the labels, beside the
            model: the memory learns nothing from it. `generate` takes the length it expects.
        ctc_head: VocabularyHead on the memory, with the blank as id 0, or None.
        ctc_weight: float in [0, 1], of CTC in the loss and in the search. The attribute may be set
            between training and search, before a function is traced: 0 searches by attention
            alone, 1 by CTC alone.
        doubly_stochastic: float of at least 0, see above; 0 for no such term. The sum over the rows
            is divided by the number of tokens, as the cross-entropy is. "loss" does not report it.

    Call arguments:
        inputs: dict of "source" (B, S) ids, (B, S, F) features or (B, H, W, 3) pixels, and
            "target" (B, T) ids that begin with the start id; each dense or ragged, but for pixels.
            Dense features may come with a "source_mask" (B, S) bool.

    Returns:
        dict of "logits" (B, T, V), "weights" (B, T, S) and "hidden" (B, T, D); with a `length_head`
        also "length" (B,); with a `ctc_head` "ctc_logits" (B, S', V), and with it or with
        `doubly_stochastic` "memory_mask" (B, S').
        `compute_loss` reads "hidden" and these; in a graph, logits that nobody reads cost nothing.

    Raises:
        ValueError: if `ctc_weight` is outside [0, 1], or `doubly_stochastic` negative.

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
        length_head=None,
        ctc_head=None,
        ctc_weight=0.3,
        doubly_stochastic=0.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        joint.check_ctc_weight(ctc_weight)
        if doubly_stochastic < 0:
            raise ValueError(
                "`doubly_stochastic` must not be negative, "
                f"got doubly_stochastic={doubly_stochastic}."
            )
        self.encoder = encoder
        self.decoder = decoder
        self.head = head
        self.source_tokenizer = source_tokenizer
        self.target_tokenizer = target_tokenizer
        self.length_head = length_head
        self.ctc_head = ctc_head
        self.ctc_weight = ctc_weight
        self.doubly_stochastic = doubly_stochastic
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
        if self.length_head is not None:
            outputs["length"] = self._expected_length(memory, memory_mask)
        if self.ctc_head is not None:
            outputs["ctc_logits"] = self.ctc_head(memory)
        if self.ctc_head is not None or self.doubly_stochastic:
            outputs["memory_mask"] = memory_mask
        return outputs

    def _expected_length(self, memory, memory_mask):
        return self.length_head(tf.stop_gradient(memory), memory_mask=memory_mask)

    def compile(self, optimizer="adam", loss=None, jit_compile=False, **kwargs):
        """Like `keras.Model.compile`, with the loss built in and XLA off unless asked for.

        Raises:
            ValueError: if a `loss` is given, or `jit_compile` with a head that samples classes.
        """
        if jit_compile and self.head.num_sampled:
            raise ValueError(
                "`jit_compile` must be False with a sampled softmax, which XLA cannot compile, "
                f"got jit_compile={jit_compile!r}, num_sampled={self.head.num_sampled}."
            )
        super().compile(optimizer=optimizer, loss=loss, jit_compile=jit_compile, **kwargs)

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
            training: bool; smoothed labels and sampled classes in `fit`, if the head has them;
                plain cross-entropy in `evaluate`.

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
        if self.length_head is not None:
            expected = tf.cast(y_pred["length"], tf.float32)
            length = tf.reduce_sum(count * tf.cast(labels != END_ID, tf.float32), 1)
            # Poisson negative log-likelihood, as of LengthHead, per token.
            losses = expected * tf.reduce_max(count, 1) - length * tf.math.log(expected)
            loss += LENGTH_LOSS_WEIGHT * tf.math.divide_no_nan(
                tf.reduce_sum(losses), tf.reduce_sum(count)
            )
        if self.doubly_stochastic:
            loss += self.doubly_stochastic * self._unevenness(labels, count, y_pred)
        if self.losses:
            loss += tf.add_n([tf.cast(term, tf.float32) for term in self.losses])
        return loss

    def _unevenness(self, labels, count, y_pred):
        """sum_s (1 - sum_t weights_ts)^2 over real tokens and steps, per token; a scalar."""
        is_real = tf.cast(labels != 0, tf.float32)
        seen = tf.einsum("bts,bt->bs", tf.cast(y_pred["weights"], tf.float32), is_real)
        uneven = tf.reduce_sum(tf.where(y_pred["memory_mask"], (1 - seen) ** 2, 0.0), 1)
        counts = tf.reduce_sum(count, 1)
        row_weights = tf.math.divide_no_nan(counts, tf.reduce_sum(is_real, 1))
        return tf.math.divide_no_nan(tf.reduce_sum(row_weights * uneven), tf.reduce_sum(counts))

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

    def search_step(self, source, max_length, lists=None):
        """The step function of a search; see `Generator.search_step`."""
        memory, memory_mask = self._encode(source)
        prepared = self.decoder.prepare(memory, memory_mask)
        head = self.head
        if lists is not None:
            if not head.built:
                head.build((None, head.units))
            head = head.restricted(lists)

        def step(ids, state, position):
            if lists is not None:
                beams = tf.reshape(ids, [tf.shape(memory)[0], -1])
                ids = tf.reshape(tf.gather(lists.ids, beams, batch_dims=1), tf.shape(ids))
            hidden, weights, state = self.decoder.step(ids, state, position, prepared)
            return head(hidden), weights, state

        state = self.decoder.initial_state(prepared, max_length)
        if self._is_joint:
            if lists is not None:
                raise ValueError(
                    "`lexicon` needs a search without CTC: set `ctc_weight` to 0, "
                    f"got ctc_weight={self.ctc_weight}."
                )
            step, state = ctc.joint_step(
                step,
                state,
                self.ctc_head(memory),
                memory_mask,
                end_id=END_ID,
                ctc_weight=self.ctc_weight,
            )
        length = None
        if self.length_head is not None:
            length = self._expected_length(memory, memory_mask)
        return SearchStart(step, state, memory_mask, length)

    def get_config(self):
        parts = (
            "encoder", "decoder", "head", "source_tokenizer", "target_tokenizer", "length_head",
            "ctc_head",
        )  # fmt: skip
        config = {name: sharing.serialize(getattr(self, name)) for name in parts}
        weights = {"ctc_weight": self.ctc_weight, "doubly_stochastic": self.doubly_stochastic}
        return {**super().get_config(), **config, **weights}
