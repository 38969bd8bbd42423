"""Generator: what searches and samples with the step function of a model.

Axis letters: B batch, T target steps, S source steps, D features, V vocabulary, K beams,
L longest output, P prefix.
"""

import numbers
from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from kzoo import batching, checks, search
from kzoo.models.copying import search_options
from kzoo.models.prompts import permitted
from kzoo.models.texts import Texts, looked_at
from kzoo.text import END_ID, START_ID


class SearchStart(NamedTuple):
    """What a search over one batch of sources starts from."""

    step: Callable  # see `search.steps`
    state: Any  # nested structure of tensors, B rows
    start_ids: tf.Tensor  # (B,) int32, what the first step reads
    source_mask: tf.Tensor  # (B, S') bool, the real steps among those the weights are about
    expected_length: tf.Tensor | None  # (B,) float, from the model's length head
    normalize: bool  # whether the step's logits want a softmax; else they are log p
    memory: Any = None  # (B, S', D) of a model with an encoder


class Generator(Texts):
    """What generates: search and sampling over the step function that a child gives.

    A child has `search_step`, and what `Texts` asks for.
    """

    start_id, end_id = START_ID, END_ID  # what a target begins and ends with
    prompt = ()  # ids between the start and every text
    suppressed = suppressed_first = ()  # ids that no output holds, or begins with
    can_stream = False  # whether there is a `stream` for live audio
    takes_prefix = True  # whether `generate` can be told what an output begins with

    def __call__(self, *args, **kwargs):
        # `build` must know whether the layers are about to make their weights themselves. If they
        # could not, the model is not built, whatever Keras says.
        self._is_in_call = True
        try:
            return super().__call__(*args, **kwargs)
        except Exception:
            self.built = self.built and self.has_all_weights
            raise
        finally:
            self._is_in_call = False

    _is_in_call = False

    @property
    def has_all_weights(self):
        """Whether all layers have their weights."""
        return all(layer.built for layer in self._flatten_layers(include_self=False))

    def hand_on_trainable(self):
        """Freezes what is in a layer that came frozen: Keras does so only when it is said later."""
        for layer in self._flatten_layers(include_self=False):
            if not layer.trainable:
                layer.trainable = True  # Keras passes over a value that is there already
                layer.trainable = False

    @property
    def encoder_stride(self):
        """Source steps from one memory step to the next.

        Raises:
            ValueError: the encoder is a user's own and does not state it.
        """
        return stated(self.encoder, "stride")

    def export(self, filepath, *args, **kwargs):
        """Refused: `keras.Model.export` would write the graph of teacher forcing.

        Raises:
            ValueError: always; it says what to call.
        """
        raise ValueError(
            "`export` of Keras would write the call of the model, which answers nothing: use "
            f"kzoo.export.save(model, {str(filepath)!r}), which writes a SavedModel that answers "
            "texts, sounds or pictures, or keras.export.ExportArchive for functions of your own."
        )

    @property
    def has_ctc(self):
        """Whether attention and CTC both have an opinion, which `ctc_weight` weighs."""
        return False

    def search_step(
        self, source, max_length, lists=None, ctc_weight=None, copy_ids=None, prompt=None
    ):
        """Encodes the source once for a search.

        Args:
            source: (B, S) ids or (B, S, F) features, dense or ragged.
            max_length: int or scalar tensor, L, or None for a state that grows step by step.
            lists: `head.CandidateLists`, whose words the step calls 0 to C - 1; or None for all.
            ctc_weight: float in [0, 1] or None, as in `generate`.
            copy_ids: (B, P) int or None, as in `generate`.
            prompt: ids or None, as in `generate`.

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
        length_normalization="gnmt",
        finished_apart=False,
        patience=None,
        lexicon=None,
        ctc_weight=None,
        copy_ids=None,
        prompt=None,
        times=None,
        renormalize=False,
        static_shapes=False,
        start=None,
    ):
        """Decodes with beam search; greedily with `beam_size=1`.

        Args:
            source: (B, S) ids or (B, S, F) features, dense or ragged.
            beam_size: int, K.
            max_length: int or scalar tensor, L, most tokens of an output, the end token included.
            min_length: int, fewest tokens before the end token.
            length_penalty: float, exponent of the length penalty.
            length_normalization: "gnmt" for GNMT's length penalty, or "length" for the length.
            finished_apart: bool, whether finished outputs leave the K places to others. With it and
                "length" the search is that of Hugging Face's transformers.
            patience: float, p: with `finished_apart`, how many times K outputs have to be finished
                before the search ends, or None to end it when no better one is to be expected.
            coverage_penalty: float, of GNMT, for source steps that no token looked at.
            expected_length: (B,) float, tokens without the end, or one number for all; None for
                what the model's `length_head` expects.
            length_deviation_penalty: float, per token of deviation from the expected length.
            no_repeat_ngram: int, n: no n-gram occurs twice in an output; 0 for no such rule.
            repetition_penalty: float, above 1 against tokens that occurred already.
            prefix: (B, P) int, padded with 0 or ragged, or (P,): the ids an output begins with.
            allowed: (V,) or (B, V) bool, False for ids never to be generated.
            groups: int that divides K: diverse beam search in as many groups.
            diversity_penalty: float, between groups.
            best_only: bool, whether to return the first hypothesis alone, which may end the search
                earlier.
            lexicon: `models.Lexicon` that says which words an answer may hold, or None for all.
            ctc_weight: float in [0, 1], of CTC beside attention, for a model that `has_ctc`: 0
                searches by attention alone, 1 by CTC alone. None for the model's own.
            copy_ids: (B, P) int, what each step of the source would be copied as, for a model that
                `copies`: see `layers.copying`. P, at least S, is known when a graph is made. An
                answer may then hold ids up to V + P - 1; `allowed` is about the V words.
            prompt: (P,) or (B, P) int, ids that the decoder reads between the start and what it
                gives, as of a language and a task; None for the model's own.
            times: `search.Times` among the target's ids, for outputs that say when; or None.
            renormalize: bool, whether probabilities are among the ids that these rules leave.
            static_shapes: bool, whether a step costs what the longest output would, so that XLA
                can compile it. Otherwise, in a graph, it costs what was generated so far.
            start: `SearchStart` of this source, where `search_step` was called before; None to call
                it.

            `search.beam_search` says precisely what each does.

        Returns:
            `search.SearchResult`: ids (B, K, L), scores, log_probs, lengths (B, K),
            weights (B, K, L, S), step_log_probs (B, K, L).

        Raises:
            ValueError: there is a `length_deviation_penalty`, but no length to deviate from; the
                `lexicon` is for other vocabularies, or comes with a `prefix` or with CTC; there is
                a `ctc_weight`, but no CTC head, or it is outside [0, 1]; there are `copy_ids` for a
                model that does not copy, or none for one that does; or what `search.beam_search`
                refuses.
        """
        checks.sequence(source=source)
        self._check_renormalize(renormalize, ctc_weight)
        allowed = permitted(self, self.suppressed, allowed)
        lists, allowed = self._candidates(lexicon, source, prefix, allowed)
        copying_options, allowed = search_options(self, copy_ids, allowed)
        prompt_options = {} if prompt is None else {"prompt": prompt}
        may_grow = not (static_shapes or tf.executing_eagerly())
        start = start or self.search_step(
            source, None if may_grow else max_length, lists, ctc_weight,
            **copying_options, **prompt_options,
        )  # fmt: skip
        if length_deviation_penalty and expected_length is None:
            expected_length = start.expected_length
            if expected_length is None:
                raise ValueError(
                    "`length_deviation_penalty` needs an `expected_length` or a model with a "
                    f"`length_head`, got length_deviation_penalty={length_deviation_penalty}."
                )
        start_ids = start.start_ids
        if isinstance(expected_length, numbers.Real):
            expected_length = tf.fill([tf.shape(start_ids)[0]], float(expected_length))
        found = search.beam_search(
            start.step,
            start.state,
            start_ids,
            end_id=self.end_id,
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
            normalize=start.normalize,
            allowed_first=self._allowed_first(lists),
            times=times,
            renormalize=renormalize,
            length_normalization=length_normalization,
            finished_apart=finished_apart,
            patience=patience,
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
        same_for_rows=False,
        min_length=0,
        length_penalty=0.6,
        no_repeat_ngram=0,
        repetition_penalty=1.0,
        prefix=None,
        allowed=None,
        ctc_weight=None,
        copy_ids=None,
        prompt=None,
        times=None,
        renormalize=False,
        start=None,
    ):
        """Draws outputs instead of searching for the best.

        Args:
            source: (B, S) ids or (B, S, F) features, dense or ragged.
            num_samples: int, K.
            temperature: float or scalar tensor, below 1 for more of the probable tokens.
            top_k: int, most tokens to choose from at a step; 0 for all.
            top_p: float in (0, 1], probability of the tokens to choose from.
            seed: int or int32 scalar: the same seed, the same samples; None for others every time.
            same_for_rows: bool, whether each row draws with the same random numbers, so that its
                samples do not depend on the other rows.
            max_length, min_length, length_penalty, no_repeat_ngram, repetition_penalty, prefix,
                allowed, ctc_weight, copy_ids, prompt, times, renormalize, start: as in
                `generate`.

            `sampling.sample` says precisely what each does.

        Returns:
            `search.SearchResult` of K samples in the order drawn.
        """
        checks.sequence(source=source)
        self._check_renormalize(renormalize, ctc_weight)
        allowed = permitted(self, self.suppressed, allowed)
        copying_options, allowed = search_options(self, copy_ids, allowed)
        prompt_options = {} if prompt is None else {"prompt": prompt}
        start = start or self.search_step(
            source, max_length, ctc_weight=ctc_weight, **copying_options, **prompt_options
        )
        return search.sample(
            start.step,
            start.state,
            start.start_ids,
            end_id=self.end_id,
            max_length=max_length,
            num_samples=num_samples,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            seed=seed,
            same_for_rows=same_for_rows,
            min_length=min_length,
            length_penalty=length_penalty,
            no_repeat_ngram=no_repeat_ngram,
            repetition_penalty=repetition_penalty,
            prefix=prefix,
            allowed=allowed,
            allowed_first=self._allowed_first(None),
            times=times,
            renormalize=renormalize,
            normalize=start.normalize,
        )

    def _check_renormalize(self, renormalize, ctc_weight):
        if renormalize and self.has_ctc and ctc_weight != 0:
            raise ValueError(
                "`renormalize` must be False with CTC, whose scores are of whole outputs, got "
                f"renormalize=True, ctc_weight={ctc_weight}."
            )

    def _allowed_first(self, lists):
        """(C,) or (B, C) bool of the words on the lists, or of all (V,); None for no rule."""
        allowed = permitted(self, self.suppressed_first)
        return allowed if lists is None or allowed is None else tf.gather(allowed, lists.ids)

    def _candidates(self, lexicon, source, prefix, allowed):
        """The lists of a lexicon or None, and what is allowed of the words in them."""
        if lexicon is None:
            return None, allowed
        if prefix is not None:
            raise ValueError(f"`prefix` must be None with a lexicon, got {prefix!r}.")
        if self.copies:
            raise ValueError("`lexicon` must be None for a model that copies, got one.")
        lexicon.check(self.source_tokenizer, self.head)
        if max(self.start_id, self.end_id) >= lexicon.frequent:
            raise ValueError(
                "`lexicon` must have start and end among its frequent words, got "
                f"frequent={lexicon.frequent}, start_id={self.start_id}, end_id={self.end_id}."
            )
        lists = lexicon.lists(source)
        if allowed is not None:
            batch_dims = tf.convert_to_tensor(allowed).shape.rank - 1
            allowed = tf.gather(allowed, lists.ids, axis=-1, batch_dims=batch_dims)
        return lists, allowed

    def text_generator(
        self, *, batch_size=64, max_source_length=256, replace_unknown=False, **options
    ):
        """Returns a function from source texts to the best target texts.

        One text in, one answer out; a list in, a list out. A text without a token is answered by
        the empty text, as an exported model does. The function is compiled once and always uses the
        model's current weights.

        Args:
            batch_size: int, texts decoded at once; texts of like length go together.
            max_source_length: int, most tokens of a source; the rest is cut off.
            replace_unknown: bool, whether an unknown word becomes the source word that it looked
                at most; see `target_texts`.
            **options: of `generate`; `best_only` is True unless it is among them.

        Raises:
            ValueError: the model lacks a tokenizer.
        """
        options = {"best_only": True, **options}
        for name in ("source_tokenizer", "target_tokenizer"):
            if getattr(self, name) is None:
                raise ValueError(
                    f"`text_generator` needs a model with a `{name}`, got None; `generate` takes "
                    "and gives ids."
                )

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string)], autograph=False)
        def best(texts):
            inputs, is_empty = self.read_source(texts, max_source_length)
            result = self.generate(**inputs, **options)
            steps = None
            if replace_unknown:
                steps = looked_at(result.weights[:, 0], inputs["source"])
            return tf.where(is_empty, "", self.target_texts(result.ids[:, 0], texts, steps))

        def answer(texts):
            return [text.decode() for text in best(tf.constant(texts, tf.string)).numpy()]

        def generate(texts):
            if isinstance(texts, str | bytes):
                return answer([texts])[0]
            return batching.map_by_length(answer, texts, batch_size)

        return generate


def stated(encoder, name):
    """What an encoder says of itself: "stride" or "can_stream".

    Raises:
        ValueError: it says nothing.
    """
    try:
        return getattr(encoder, name)
    except AttributeError:
        raise ValueError(
            f"`encoder` must state its `{name}`: `stride` is the number of source steps from one "
            "memory step to the next, `can_stream` whether it has a `step` for live audio, "
            f"got {type(encoder).__name__} without."
        ) from None


def no_ctc_weight(ctc_weight):
    """Raises ValueError if there is a `ctc_weight` for a model where there is nothing to weigh."""
    if ctc_weight is not None:
        raise ValueError(
            "`ctc_weight` must be None for a model without both attention and a CTC head, "
            f"got ctc_weight={ctc_weight}."
        )
