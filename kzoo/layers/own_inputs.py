"""What a decoder reads when some of its inputs are its own answers: label ids -> mixed ids.

A decoder's `mixed_ids` is one of these two functions. Axis letters: B batch, T target steps,
D features.

    choose(t, ids (B,), hidden (B, D)) -> ids (B,)

says what step t reads: `ids` are the labels' there, and from `hidden`, what the decoder made of
step t - 1, the head tells what the model would have said. Step 0 is not asked: the start is kept.
Nothing here has dropout or a gradient: ids have none.
"""

import tensorflow as tf

from kzoo.layers import masking


def step_by_step(decoder, ids, memory, memory_mask, choose):
    """The decoder runs free: each step reads what was chosen after the step before.

    Bengio et al. (2015), https://arxiv.org/abs/1506.03099, section 2.4. T - 1 of the decoder's
    steps, as a search runs them, one after the other.

    Args:
        decoder: layer with `prepare`, `initial_state` and `step`, built.
        ids: (B, T) int, dense or ragged, what teacher forcing has the decoder read.
        memory: (B, S, Dm) float. memory_mask: (B, S) bool.
        choose: function, see above.

    Returns:
        (B, T) int, dense.
    """
    prepared = decoder.prepare(memory, memory_mask)
    labels = _by_steps(ids)
    state = decoder.initial_state(prepared, tf.shape(labels)[0])

    def one_step(t, mixed, state):
        hidden, _, state = decoder.step(mixed[t - 1], state, t - 1, prepared)
        return t + 1, _with_step(mixed, t, choose(t, mixed[t], hidden)), state

    return tf.transpose(_for_each_step(one_step, labels, state))


def in_two_passes(decoder, ids, memory, memory_mask, choose):
    """The decoder reads the labels, and each step gets what was chosen after the label before it.

    The first of the two passes of Mihaylova & Martins (2019), https://arxiv.org/abs/1906.07651,
    section 3; the second one reads what is returned. All steps at once, so an answer at step t was
    given to the labels before t and not to other answers.

    Args and Returns: as in `step_by_step`; `decoder` needs no more than its call.
    """
    hidden, _ = decoder(ids, memory, memory_mask=memory_mask, training=False)
    hidden = tf.transpose(hidden, (1, 0, 2))

    def one_step(t, mixed):
        # The logits of one step at a time: those of all need not fit into memory.
        return t + 1, _with_step(mixed, t, choose(t, mixed[t], hidden[t - 1]))

    return tf.transpose(_for_each_step(one_step, _by_steps(ids)))


def _by_steps(ids):
    dense, _ = masking.to_dense(masking.as_ids(ids))
    return tf.transpose(dense)  # (T, B)


def _with_step(mixed, t, ids):
    # A scatter refuses a batch without rows, which a replica may have.
    return tf.where(tf.range(tf.shape(mixed)[0])[:, None] == t, tf.cast(ids, mixed.dtype), mixed)


def _for_each_step(one_step, labels, *state):
    """Runs steps 1 ... T - 1 and returns the mixed ids (T, B)."""
    steps = tf.shape(labels)[0]
    return tf.while_loop(
        lambda t, *_: t < steps,
        one_step,
        (1, labels, *state),
        maximum_iterations=steps,
    )[1]
