"""A small translation run in a process of its own, which kills itself at a moment.

Processes are forked from one that has imported TensorFlow and done nothing with it, so that each
costs what it trains and exports.
"""

import contextlib
import functools
import itertools
import multiprocessing
import os
import signal
import sys
from unittest import mock

WORDS = ("one", "two", "three", "red", "green", "cats", "dogs")
IMPORTED = ("tensorflow", "tensorflow_text", "keras", "recipes.translation", "kzoo.training",
            "kzoo.models", "kzoo.zoo", "kzoo.export", "kzoo.search", "kzoo.metrics")  # fmt: skip


def write_pairs(path):
    sources = [" ".join(words) for n in (2, 3) for words in itertools.permutations(WORDS, n)]
    path.write_text("".join(f"{each}\t{each.upper()}\n" for each in sources), encoding="utf-8")
    return str(path)


def run(config, log, moment=None):
    """Runs `recipes.translation` in another process, until its end or a moment of `MOMENTS` or
    `MOMENTS_OF_A_WORKER`.

    Returns:
        int, the exit code; minus the number of the signal that killed it.
    """
    process = start(config, log, moment)
    process.join()
    return process.exitcode


def start(config, log, moment=None):
    """The process of `run`."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(IMPORTED))
    process = context.Process(target=_run, args=(config, str(log), moment))
    process.start()
    return process


def _run(config, log, moment):
    with open(log, "a") as file:
        for number in (1, 2):
            os.dup2(file.fileno(), number)
    from recipes import cli, translation

    sys.argv = ["translation"]
    with contextlib.ExitStack() as patches:
        for patch in (
            *_small(),
            *([] if moment is None else [(MOMENTS | MOMENTS_OF_A_WORKER)[moment]()]),
        ):
            patches.enter_context(patch)
        with mock.patch.object(cli, "parse", lambda *_, **__: config):
            cli.run(translation.main, translation.Config, "")


def _small():
    """A model, an export and a proof that take seconds."""
    import kzoo
    from recipes import runs, translation

    small = functools.partial(kzoo.zoo.transformer_tiny, num_layers=1)
    few = functools.partial(kzoo.export.save, signatures=["serving_default"])
    yield mock.patch.object(kzoo.zoo, "transformer_tiny", small)
    yield mock.patch.object(kzoo.export, "save", few)
    yield mock.patch.object(translation, "draw", lambda *_: None)
    yield mock.patch.object(runs, "show_answers", lambda *_: None)


def _die(*arguments, **options):
    os.kill(os.getpid(), signal.SIGKILL)


def _at(owner, name, count, condition=lambda *arguments: True):
    """A patch that kills the process in the place of a call, the `count`th that fits."""
    original, calls = getattr(owner, name), itertools.count(1)

    def called(*arguments, **options):
        if condition(*arguments) and next(calls) == count:
            _die()
        return original(*arguments, **options)

    return mock.patch.object(owner, name, called)


def _in_the_first_epoch():
    from kzoo import training

    return _at(training.TimeBudget, "on_train_batch_end", 4)


def _in_validation():
    from kzoo import training

    return _at(training.ValidationScore, "on_epoch_end", 1)


def _while_a_checkpoint_is_written():
    """With half of its bytes on the disk."""
    from kzoo.training import kept_weights

    def half(number):
        name = os.readlink(f"/proc/self/fd/{number}")
        if "part.checkpoint" in name:
            os.truncate(name, os.path.getsize(name) // 2)
            _die()

    return mock.patch.object(kept_weights.os, "fsync", half)


def _before_an_epoch_is_noted():
    """Its weights are the best and among the last, but in no journal and no checkpoint."""
    from kzoo import training

    return _at(training.Journal, "on_epoch_end", 2)


def _while_weights_are_chosen():
    from kzoo import training

    return _at(training.LastWeights, "average", 1)


def _in_the_export():
    from kzoo.export import warmup

    return _at(warmup, "write", 1)


def _in_a_batch_of_the_second_epoch():
    """The chief's checkpoint is of the begin of that epoch."""
    from kzoo import training

    def is_second(self, *_):
        return self.model.optimizer.iterations.numpy() > self.params["steps"]

    return _at(training.OneDecision, "on_train_batch_end", 2, is_second)


MOMENTS = {
    "in the first epoch": _in_the_first_epoch,
    "in validation": _in_validation,
    "while a checkpoint is written": _while_a_checkpoint_is_written,
    "before an epoch is noted": _before_an_epoch_is_noted,
    "while weights are chosen": _while_weights_are_chosen,
    "in the export": _in_the_export,
}
MOMENTS_OF_A_WORKER = {"in a batch of the second epoch": _in_a_batch_of_the_second_epoch}
