"""Seq2Seq: encoder + decoder + head, one Keras model for all of kzoo.

Axis letters: B batch, T target steps, S source steps, D features, V vocabulary, K beams,
L longest output, P prefix.
"""

import functools

import keras
import tensorflow as tf

from kzoo import checks, ctc
from kzoo.ctc import joint
from kzoo.layers import copying, masking, replicas, sharing
from kzoo.models import r_drop as r_drop_passes
from kzoo.models.copying import check_copier, copying_step, with_copies
from kzoo.models.generator import SearchStart, no_ctc_weight
from kzoo.models.prompts import after_prompt, check_prompt, prompt_rows, with_prompt
from kzoo.models.trainable import Trainable
from kzoo.search.steps import traced_once
from kzoo.text import END_ID, START_ID

# Adam's step does not depend on it, and the norm that gradients are clipped by hardly does.
LENGTH_LOSS_WEIGHT = 0.01


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

    With a `Copier` it is a pointer-generator: the answer may hold words of the source that the
    vocabulary lacks, `layers.copying` says how.

    R-Drop, Liang et al. (2021), https://arxiv.org/abs/2106.14448, equations 2 to 4, has two passes
    of each batch, P1 and P2 with two dropouts, say the same; half of the paper's loss, so that it
    stays on the scale of the cross-entropy, is, with the paper's alpha as `r_drop`,

        (-log P1(y) - log P2(y)) / 2  +  r_drop / 2 (KL(P1 || P2) + KL(P2 || P1)) / 2

    Args:
        encoder: layer, `encoder(source) -> (memory, memory_mask, ...)`. `align` and `export.save`
            read its `stride`, source steps from one memory step to the next, which your own
            encoder must state, as 1.
        decoder: layer with `call`, `prepare`, `initial_state` and `step`; see `zoo`.
        head: VocabularyHead.
        source_tokenizer: strings -> source ids, or an AudioSource or ImageSource; or None.
            `export.save` needs it.
        target_tokenizer: target ids <-> strings, or None. `export.save` needs it.
        length_head: LengthHead or None. `fit` trains it on the lengths of the labels, beside the
            model: the memory learns nothing from it. `generate` takes the length it expects.
        ctc_head: VocabularyHead on the memory, with the blank as id 0, or None.
        ctc_weight: float in [0, 1], of CTC in the loss and in the search; `generate` takes another
            one for a search: 0 for attention alone, 1 for CTC alone.
        doubly_stochastic: float of at least 0, see above; 0 for no such term. The sum over the rows
            is divided by the number of tokens, as the cross-entropy is. "loss" does not report it.
        start_id: int, what "target" begins with, and so every search. kzoo's tokenizers and
            `batching` have 1; another vocabulary, as of Keras's TextVectorization, has its own.
        end_id: int, what the labels end with, and what ends an output; 2 likewise.
        copier: Copier or None. The decoder's attention weights say what is copied; its loss about
            coverage is added, and reported as "coverage_loss". It needs the full softmax, a decoder
            that has an `embedding`, and a memory step for each token of the source.
        scheduled_sampling: ScheduledSampling, how often the decoder reads its own answers in
            training; None for teacher forcing.
        r_drop: float of at least 0, see above, the paper has 5 for translation; 0 for one pass. It
            doubles the time of a step. "loss" does not report the second term.
        prompt: tuple of P ids that stand between the start and every text, as of a language and a
            task: the decoder reads them, in training and before the first step of a search, and
            they are no part of labels, outputs, lengths and scores. `generate` takes another one.
        suppressed: tuple of ids that no search and no sample gives; training knows them as others.
        suppressed_first: tuple of ids that none begins with, such as the end.

    Call arguments:
        inputs: dict of "source" (B, S) ids, (B, S, F) features or (B, H, W, 3) pixels, and
            "target" (B, T) ids that begin with `start_id`; each dense or ragged, but for pixels.
            Dense features may come with a "source_mask" (B, S) bool. With a `copier` also
            "copy_ids" (B, S), and labels may be ids of places: see `batching.copying_corpus`.

    Returns:
        dict of "logits" (B, T, V), "weights" (B, T, S) and "hidden" (B, T, D); with a `length_head`
        also "length" (B,); with a `ctc_head` "ctc_logits" (B, S', V), and with it or with
        `doubly_stochastic` "memory_mask" (B, S'). With a `copier`, "logits" are (B, T, V + S) log P
        of words and places, and "gate" (B, T) and "copy_ids" are there, too. In training with
        `r_drop` also "second", a dict of the same of the second pass.
        `compute_loss` reads "hidden" and these; in a graph, logits that nobody reads cost nothing.

    Raises:
        ValueError: if `ctc_weight` is outside [0, 1], `doubly_stochastic` negative, an id less
            than 1, or there is a `copier` with what does not go with it; if the decoder has no
            `mixed_ids` for `scheduled_sampling`; if `r_drop` is negative, or meets
            `scheduled_sampling`, whose two passes would read different words, or a head that
            samples classes, which are not all that a divergence is about; if `prompt`, `suppressed`
            or `suppressed_first` hold no ids of the vocabulary; if a `prompt` meets a copier, a CTC
            head or `scheduled_sampling`, or `suppressed_first` a copier.

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
        start_id=START_ID,
        end_id=END_ID,
        copier=None,
        scheduled_sampling=None,
        r_drop=0.0,
        prompt=(),
        suppressed=(),
        suppressed_first=(),
        **kwargs,
    ):
        super().__init__(autocast=False, **kwargs)  # float ids stay whole
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
        self.copier = copier
        checks.integer(1, start_id=start_id, end_id=end_id)
        self.start_id, self.end_id = start_id, end_id
        self.scheduled_sampling = scheduled_sampling
        self.r_drop = r_drop
        self.prompt = tuple(prompt)
        self.suppressed, self.suppressed_first = tuple(suppressed), tuple(suppressed_first)
        self._check_teaching()
        names = ["loss"] if ctc_head is None else ["loss", "attention_loss", "ctc_loss"]
        self.own_metrics = {name: keras.metrics.Mean(name=name) for name in names}
        if ctc_head is not None:
            self.own_metrics["infeasible"] = keras.metrics.Sum(name="infeasible")
        if copier is not None:
            self.own_metrics["coverage_loss"] = keras.metrics.Mean(name="coverage_loss")
        self.hand_on_trainable()

    def _check_teaching(self):
        """Raises ValueError unless the parts go with how they are trained; `compile` asks again, as
        attributes may have been set since."""
        if self.scheduled_sampling is not None and not hasattr(self.decoder, "mixed_ids"):
            raise ValueError(
                "`scheduled_sampling` needs a decoder with `mixed_ids`, as those of kzoo, "
                f"got a {type(self.decoder).__name__}."
            )
        checks.not_negative(r_drop=self.r_drop)
        if self.r_drop and (self.scheduled_sampling is not None or self.head.num_sampled):
            raise ValueError(
                "`r_drop` must be 0 with `scheduled_sampling` and with a sampled softmax, "
                f"got r_drop={self.r_drop}, num_sampled={self.head.num_sampled}."
            )
        if self.copies:
            check_copier(self)
        check_prompt(self)

    @property
    def needed_inputs(self):
        """The names of what `call` cannot do without."""
        return ("source", "target", *(("copy_ids",) if self.copies else ()))

    @property
    def copies(self):
        """Whether answers may hold ids of places of the source."""
        return self.copier is not None

    @property
    def has_ctc(self):
        """Whether there is a CTC head beside the decoder."""
        return self.ctc_head is not None

    trains_ctc = has_ctc

    def call(self, inputs, training=False):
        if training and self.r_drop:
            return r_drop_passes.two_passes(functools.partial(self._pass, training=True), inputs)
        return self._pass(inputs, training)

    def _pass(self, inputs, training):
        memory, memory_mask, *_ = self.encoder(
            inputs["source"], source_mask=inputs.get("source_mask"), training=training
        )
        target = inputs["target"]
        if self.copies:
            target = masking.to_dense(masking.as_ids(target))[0]
            target = self.copier.readable(target, self.head.vocabulary_size)
        if training and self.scheduled_sampling is not None:
            target = self.scheduled_sampling.mixed_ids(
                target, memory, memory_mask, decoder=self.decoder, head=self.head,
                never=(0, self.start_id, self.end_id),
            )  # fmt: skip
        if self.prompt:
            target = with_prompt(target, self.prompt)
        hidden, weights = self.decoder(target, memory, memory_mask=memory_mask, training=training)
        if self.prompt:
            hidden, weights = hidden[:, len(self.prompt) :], weights[:, len(self.prompt) :]
        outputs = {"logits": self.head(hidden), "weights": weights, "hidden": hidden}
        if self.copies:
            copy_ids = masking.to_dense(masking.as_ids(inputs["copy_ids"]))[0]
            seen = masking.blank(memory, memory_mask)
            outputs = with_copies(self, outputs, target, seen, copy_ids)
        if self.length_head is not None:
            outputs["length"] = self._expected_length(memory, memory_mask)
        if self.ctc_head is not None:
            outputs["ctc_logits"] = self.ctc_head(memory)
        if self.ctc_head is not None or self.doubly_stochastic:
            outputs["memory_mask"] = memory_mask
        return outputs

    def train_step(self, *args, **kwargs):
        """One step of `fit`, which scheduled sampling counts."""
        logs = super().train_step(*args, **kwargs)
        if self.scheduled_sampling is not None:
            self.scheduled_sampling.count_step()
        return logs

    def _expected_length(self, memory, memory_mask):
        return self.length_head(tf.stop_gradient(memory), memory_mask=memory_mask)

    def compile(
        self,
        optimizer="adam",
        loss=None,
        jit_compile=False,
        metrics=None,
        weighted_metrics=None,
        **kwargs,
    ):
        """Like `keras.Model.compile`, with the loss built in and XLA off unless asked for.

        Args:
            metrics: list of metrics of the logits, such as "accuracy", or a dict {"logits": list}.
                They see the real tokens of a batch, labels (N,) and logits (N, V), as if each was
                an example; a step then computes the logits of all V words.
            weighted_metrics: likewise; these heed `sample_weight`.
            optimizer, loss, jit_compile and all others: as in `keras.Model.compile`.

        Raises:
            ValueError: if a `loss` is given, metrics of something else than the logits, or
                `jit_compile` with a head that samples classes.
        """
        if jit_compile and self.head.num_sampled:
            raise ValueError(
                "`jit_compile` must be False with a sampled softmax, which XLA cannot compile, "
                f"got jit_compile={jit_compile!r}, num_sampled={self.head.num_sampled}."
            )
        self._check_teaching()
        super().compile(
            optimizer=optimizer,
            loss=loss,
            jit_compile=jit_compile,
            metrics=_of_logits("metrics", metrics),
            weighted_metrics=_of_logits("weighted_metrics", weighted_metrics),
            **kwargs,
        )

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        """Updates the metrics of `compile` with the real tokens, and returns all by name."""
        if self._compile_metrics is not None:
            labels, is_real = self.label_weights(y)
            labels, logits, weight = (
                tf.boolean_mask(each, is_real > 0)
                for each in (labels, y_pred["logits"], self.label_weights(y, sample_weight)[1])
            )
            self._compile_metrics.update_state(labels, logits, weight)
        return self.get_metrics_result()

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Mean cross-entropy in nats per real token: labels with id 0 do not count.

        Under a distribution strategy it is the share of the replica in the mean over the tokens of
        all replicas, as Keras adds up their gradients; the metrics are about the whole batch.

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
        rule = (
            "`y` must have as many steps as the target: teacher forcing wants <s> + y and y + </s>"
        )
        if not hidden.shape[1:2].is_compatible_with(labels.shape[1:2]):
            raise ValueError(f"{rule}, got {labels.shape[1]} and {hidden.shape[1]} steps.")
        if None in (hidden.shape[1], labels.shape[1]):
            with tf.control_dependencies(
                [tf.debugging.assert_equal(tf.shape(labels)[1], tf.shape(hidden)[1], rule)]
            ):
                labels = tf.identity(labels)
        difference, passes = 0.0, 1
        if "second" in y_pred:
            difference = r_drop_passes.divergence(y_pred, count) * count
            difference = replicas.mean(tf.reduce_sum(difference), tf.reduce_sum(count))
            labels, count, y_pred = r_drop_passes.one_batch(labels, count, y_pred)
            passes = 2
        losses = self._token_losses(labels, y_pred, training)
        losses = tf.where(tf.reshape(count, [-1]) > 0, losses, 0.0)
        tokens = tf.reduce_sum(count)
        loss = replicas.mean(tf.reduce_sum(losses * tf.reshape(count, [-1])), tokens)
        if self.ctc_head is not None:
            self.own_metrics["attention_loss"].update_state(*replicas.reported(loss, tokens))
            ctc_loss = self.ctc_loss(
                labels, count, y_pred["ctc_logits"], y_pred["memory_mask"], passes
            )
            loss = (1 - self.ctc_weight) * loss + self.ctc_weight * ctc_loss
        self.own_metrics["loss"].update_state(*replicas.reported(loss, tokens))
        if self.length_head is not None:
            expected = tf.cast(y_pred["length"], tf.float32)
            length = tf.reduce_sum(count * tf.cast(labels != self.end_id, tf.float32), 1)
            # Poisson negative log-likelihood, as of LengthHead, per token.
            losses = expected * tf.reduce_max(count, 1) - length * tf.math.log(expected)
            loss += LENGTH_LOSS_WEIGHT * replicas.mean(tf.reduce_sum(losses), tokens)
        if self.doubly_stochastic:
            loss += self.doubly_stochastic * self._unevenness(labels, count, y_pred)
        if self.copies:
            loss += self.copier.coverage_weight * self._coverage_loss(count, y_pred["weights"])
        return loss + self.r_drop / 2 * difference + self.added_losses()

    def _token_losses(self, labels, y_pred, training):
        """The cross-entropy of each label (B, T), as (B T,); anything for label 0."""
        if self.copies:
            return tf.reshape(self.copier.loss(self.head, y_pred, labels, training), [-1])
        rows = tf.reshape(y_pred["hidden"], (-1, y_pred["hidden"].shape[-1]))
        return self.head.loss(rows, tf.reshape(labels, [-1]), training=training)

    def _coverage_loss(self, count, weights):
        """Coverage's loss per real token; updates the metric."""
        losses = tf.where(count > 0, copying.coverage_loss(weights), 0.0)
        tokens = tf.reduce_sum(count)
        loss = replicas.mean(tf.reduce_sum(losses * count), tokens)
        self.own_metrics["coverage_loss"].update_state(*replicas.reported(loss, tokens))
        return loss

    def _unevenness(self, labels, count, y_pred):
        """sum_s (1 - sum_t weights_ts)^2 over real tokens and steps, per token; a scalar."""
        is_real = tf.cast(labels != 0, tf.float32)
        seen = tf.einsum("bts,bt->bs", tf.cast(y_pred["weights"], tf.float32), is_real)
        uneven = tf.reduce_sum(tf.where(y_pred["memory_mask"], (1 - seen) ** 2, 0.0), 1)
        counts = tf.reduce_sum(count, 1)
        row_weights = tf.math.divide_no_nan(counts, tf.reduce_sum(is_real, 1))
        return replicas.mean(tf.reduce_sum(row_weights * uneven), tf.reduce_sum(counts))

    def prepare(self, source):
        """Encodes the source once for a search.

        Args:
            source: (B, S) ids or (B, S, F) features, dense or ragged.

        Returns:
            What the decoder's steps read, B rows.
        """
        return self.decoder.prepare(*self._encode(source))

    def _encode(self, source):
        """Source -> memory and its mask; builds a model that was not called yet."""
        if not self.built:
            others = dict.fromkeys(self.needed_inputs[1:], (None, None))
            self.build({"source": (None, *source.shape[1:]), **others})
        memory, memory_mask, *_ = self.encoder(source, training=False)
        return memory, memory_mask

    def _search_ctc_weight(self, ctc_weight):
        """The weight of CTC in a search, 0 without a CTC head."""
        if not self.has_ctc:
            no_ctc_weight(ctc_weight)
            return 0.0
        if ctc_weight is None:
            return self.ctc_weight
        joint.check_ctc_weight(ctc_weight)
        return ctc_weight

    def search_step(
        self, source, max_length, lists=None, ctc_weight=None, copy_ids=None, prompt=None
    ):
        """The step function of a search; see `Generator.search_step`."""
        ctc_weight = self._search_ctc_weight(ctc_weight)
        memory, memory_mask = self._encode(source)
        prepared = self.decoder.prepare(memory, memory_mask)
        if not self.head.built:
            self.head.build((None, self.head.units))
        head = self.head.read_once() if lists is None else self.head.restricted(lists)

        def step(ids, state, position):
            if lists is not None:
                beams = tf.reshape(ids, [tf.shape(memory)[0], -1])
                ids = tf.reshape(tf.gather(lists.ids, beams, batch_dims=1), tf.shape(ids))
            hidden, weights, state = self.decoder.step(ids, state, position, prepared)
            return head(hidden), weights, state

        if self.copies:
            step = copying_step(self, prepared, masking.blank(memory, memory_mask), copy_ids)
        step = traced_once(step)
        start_ids = tf.fill([tf.shape(memory)[0]], self.start_id)
        prompt = prompt_rows(self.prompt if prompt is None else prompt, tf.shape(memory)[0])
        has_prompt = prompt.shape[1] != 0
        if has_prompt and max_length is not None:
            max_length += tf.shape(prompt)[1] if prompt.shape[1] is None else prompt.shape[1]
        state = self.decoder.initial_state(prepared, max_length)
        if has_prompt:
            step, state, start_ids = self._after_prompt(step, state, start_ids, prompt, lists)
        if ctc_weight:
            if lists is not None:
                raise ValueError(
                    "`lexicon` needs a search without CTC: set `ctc_weight` to 0, "
                    f"got ctc_weight={ctc_weight}."
                )
            step, state = ctc.joint_step(
                step, state, self.ctc_head(memory), memory_mask,
                end_id=self.end_id, ctc_weight=ctc_weight,
            )  # fmt: skip
        length = None
        if self.length_head is not None:
            length = self._expected_length(memory, memory_mask)
        # What joins two probabilities does not sum to 1, and what is copied was log p before.
        is_normal = bool(ctc_weight) or self.copies
        return SearchStart(step, state, start_ids, memory_mask, length, not is_normal, memory)

    def _after_prompt(self, step, state, start_ids, prompt, lists):
        """`after_prompt`, unless the model has what does not go with it."""
        if self.has_ctc or self.copies or lists is not None:
            raise ValueError(
                "`prompt` must be empty in a search with CTC, a copier or a lexicon, "
                f"got shape {prompt.shape}."
            )
        return after_prompt(step, state, start_ids, prompt)

    @sharing.numbered
    def get_config(self):
        parts = (
            "encoder", "decoder", "head", "source_tokenizer", "target_tokenizer", "length_head",
            "ctc_head", "copier", "scheduled_sampling",
        )  # fmt: skip
        config = {name: sharing.serialize(getattr(self, name)) for name in parts}
        names = (
            "ctc_weight", "doubly_stochastic", "start_id", "end_id", "r_drop",
            "prompt", "suppressed", "suppressed_first",
        )  # fmt: skip
        return {**super().get_config(), **config, **{name: getattr(self, name) for name in names}}


def _of_logits(name, metrics):
    """The metrics of the logits, however Keras's `compile` may be given them."""
    if not isinstance(metrics, dict):
        return metrics
    if set(metrics) != {"logits"}:
        raise ValueError(
            f"`{name}` must be a list, or a dict with the key 'logits', got {sorted(metrics)}."
        )
    found = metrics["logits"]
    return found if isinstance(found, list | tuple) else [found]
