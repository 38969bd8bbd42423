"""Seq2Seq: encoder + decoder + head, one Keras model for all of kzoo.

Axis letters: B batch, T target steps, S source steps, D features, V vocabulary, K beams,
L longest output, P prefix.
"""

import math

import keras
import tensorflow as tf

from kzoo import batching, sampling, search
from kzoo.layers import masking, sharing
from kzoo.text import END_ID, START_ID, UNKNOWN_ID


class Generator(keras.Model):
    """What generates: search and sampling over the step function that a child gives.

    A child has `search_step`, `source_tokenizer` and `target_tokenizer`.
    """

    def search_step(self, source, max_length, candidates=None):
        """Encodes the source once for a search.

        Args:
            source: (B, S) ids or (B, S, F) features, dense or ragged.
            max_length: int or scalar tensor, L, or None for a state that grows step by step.
            candidates: (C,) int target ids, which the step calls 0 to C - 1; or None for all.

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

        Raises:
            ValueError: `lexicon` and `prefix` are given.
        """
        candidates = None
        if lexicon is not None:
            if prefix is not None:
                raise ValueError(f"`prefix` must be None with a lexicon, got {prefix!r}.")
            candidates, listed = lexicon.candidates(source)
            allowed = None if allowed is None else tf.gather(allowed, candidates, axis=-1)
        may_grow = not (static_shapes or tf.executing_eagerly())
        step, state, source_mask = self.search_step(
            source, None if may_grow else max_length, candidates
        )
        if lexicon is not None:
            step = _listed_step(step, listed)
        found = search.beam_search(
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
        )
        if lexicon is None:
            return found
        return found._replace(ids=tf.gather(candidates, found.ids))

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
        ids = self.source_tokenizer.tokenize(texts)[:, :max_source_length]
        return tf.concat([ids, tf.fill([ids.nrows(), 1], END_ID)], 1).to_tensor()

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
            ValueError: a tokenizer is of subwords.
        """
        if source_texts is None:
            return self.target_tokenizer.detokenize(ids)
        if not hasattr(self.source_tokenizer, "split"):
            raise ValueError(
                "`replace_unknown` needs tokenizers of words or characters, "
                f"got a {type(self.source_tokenizer).__name__}."
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


def _listed_step(step, listed):
    """A step function whose logits are -inf for what a sentence's row of (B, C) does not list."""

    def listed_step(ids, state, position):
        logits, *rest = step(ids, state, position)
        beams = tf.reshape(logits, [tf.shape(listed)[0], -1, listed.shape[1]])
        beams = tf.where(listed[:, None, :], beams, -math.inf)
        return tf.reshape(beams, tf.shape(logits)), *rest

    return listed_step


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


@keras.saving.register_keras_serializable("kzoo")
class Seq2Seq(Generator):
    """p(y | x) = prod_t softmax(head(decoder(y_<t, encoder(x))))[y_t].

    Train it with plain `compile` and `fit`; the loss is built in.

    Args:
        encoder: layer, `encoder(source) -> (memory, memory_mask, ...)`.
        decoder: layer with `call`, `prepare`, `initial_state` and `step`; see `zoo`.
        head: VocabularyHead.
        source_tokenizer: strings -> source ids, or None. `export.save` needs it.
        target_tokenizer: target ids <-> strings, or None. `export.save` needs it.

    Call arguments:
        inputs: dict of "source" (B, S) ids or (B, S, F) features, and "target" (B, T) ids that
            begin with the start id; each dense or ragged.

    Returns:
        dict of "logits" (B, T, V), "weights" (B, T, S) and "hidden" (B, T, D). `compute_loss` reads
        "hidden"; in a graph, logits that nobody reads cost nothing.

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
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.encoder = encoder
        self.decoder = decoder
        self.head = head
        self.source_tokenizer = source_tokenizer
        self.target_tokenizer = target_tokenizer
        self.token_loss = keras.metrics.Mean(name="loss")

    def build(self, inputs_shape):
        # Nothing to do: the layers build themselves when they are called.
        pass

    def call(self, inputs, training=False):
        memory, memory_mask, *_ = self.encoder(inputs["source"], training=training)
        hidden, weights = self.decoder(
            inputs["target"], memory, memory_mask=memory_mask, training=training
        )
        return {"logits": self.head(hidden), "weights": weights, "hidden": hidden}

    def compile(self, optimizer="adam", loss=None, jit_compile=False, **kwargs):
        """Like `keras.Model.compile`, with the loss built in and XLA off unless asked for.

        Raises:
            ValueError: if a `loss` is given, or `jit_compile` with a head that samples classes.
        """
        if loss is not None:
            raise ValueError(f"`loss` must be None: Seq2Seq has its own, got loss={loss!r}.")
        if jit_compile and self.head.num_sampled:
            raise ValueError(
                "`jit_compile` must be False with a sampled softmax, which XLA cannot compile, "
                f"got jit_compile={jit_compile!r}, num_sampled={self.head.num_sampled}."
            )
        super().compile(optimizer=optimizer, jit_compile=jit_compile, **kwargs)

    def compile_from_config(self, config):
        """Compiles a loaded model; Keras leaves that to a model with its own `compile`."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Mean cross-entropy in nats per real token: labels with id 0 do not count.

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
        labels, real = masking.to_dense(y)
        hidden = y_pred["hidden"]
        count = tf.cast(real & (labels != 0), tf.float32)
        if sample_weight is not None:
            weight = tf.cast(sample_weight, tf.float32)
            count *= weight[:, None] if weight.shape.rank == 1 else weight
        rows = tf.reshape(hidden, (-1, hidden.shape[-1]))
        losses = self.head.loss(rows, tf.reshape(labels, [-1]), training=training)
        losses = tf.where(tf.reshape(count, [-1]) > 0, losses, 0.0)
        loss = tf.math.divide_no_nan(
            tf.reduce_sum(losses * tf.reshape(count, [-1])), tf.reduce_sum(count)
        )
        self.token_loss.update_state(loss, tf.reduce_sum(count))
        if self.losses:
            loss += tf.add_n([tf.cast(term, tf.float32) for term in self.losses])
        return loss

    @property
    def metrics(self):
        """Keras's own "loss" weighs each batch by its rows; this one weighs it by its tokens."""
        return [self.token_loss, *(m for m in super().metrics if m.name != "loss")]

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

    def search_step(self, source, max_length, candidates=None):
        """The step function of a search; see `Generator.search_step`."""
        memory, memory_mask = self._encode(source)
        prepared = self.decoder.prepare(memory, memory_mask)
        head = self.head
        if candidates is not None:
            if not head.built:
                head.build((None, head.units))
            head = head.restricted(candidates)

        def step(ids, state, position):
            if candidates is not None:
                ids = tf.gather(candidates, ids)
            hidden, weights, state = self.decoder.step(ids, state, position, prepared)
            return head(hidden), weights, state

        return step, self.decoder.initial_state(prepared, max_length), memory_mask

    def get_config(self):
        parts = ("encoder", "decoder", "head", "source_tokenizer", "target_tokenizer")
        config = {name: sharing.serialize(getattr(self, name)) for name in parts}
        return {**super().get_config(), **config}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = {
            name: keras.saving.deserialize_keras_object(value) if isinstance(value, dict) else value
            for name, value in config.items()
        }
        return cls(**config)
