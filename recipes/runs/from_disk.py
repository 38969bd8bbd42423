"""`--on_disk`: training pairs that stay in their file, and are read and tokenized batch by batch.

splits = load(config)                            # train is a sample, for the vocabulary
batches, valid_batches = make_batches(model, valid, run, config)
"""

from __future__ import annotations

import functools
import zlib
from pathlib import Path
from typing import Any

import kzoo
from kzoo.metrics.score import normalized
from recipes.data import pairs, pairs_files, sources
from recipes.data.examples import Pairs
from recipes.data.files import lines
from recipes.data.splits import Splits, chosen_place
from recipes.runs.building import make_weights, spread_rows
from recipes.runs.folder import position

HELP = (
    "training pairs stay in their file and are read batch by batch: for pairs that do not fit into "
    "memory; --train is a file of lines source<TAB>target, not compressed, and --valid is needed"
)
SAMPLE = 100_000  # pairs that the vocabulary is learned from, spread over the file
OTHERS = ("clean", "columns", "candidates", "subword_sampling")  # flags that need all pairs at once


def check_on_disk(config: Any) -> None:
    """Raises a ValueError if --on_disk meets flags that it does not go with."""
    if not config.on_disk:
        return
    is_one = len(config.target_languages) == 1
    is_file = config.train and len(sources.weights(config.train)) == 1
    if not (is_one and is_file and config.valid):
        raise ValueError(
            "`on_disk` needs one target language, one file for train, and valid, got "
            f"target_language={config.target_language}, train={config.train}, valid={config.valid}."
        )
    chosen_place(config.data, config.train, type(config).data)
    for name in OTHERS:
        if value := getattr(config, name):
            raise ValueError(f"`{name}` must not be given with on_disk, got {name}={value}.")


def load(config: Any) -> Splits:
    """A sample of the training pairs, and the validation and test pairs as others have them.

    Raises:
        ValueError: the file is compressed, or of another format, or has no pairs.
    """
    codes = config.source_language, config.target_language
    path = _path(config)
    if path.suffix not in pairs.TABLES or not path.is_file():
        raise ValueError(
            f"`train` must be a file that ends in {' or '.join(pairs.TABLES)} with on_disk, "
            f"got {str(path)!r}."
        )
    try:
        next(lines(path), "")  # what is compressed, or in UTF-16, says so
        whole = _opened(config)
    except ValueError as error:
        found = error if str(error).startswith(str(path)) else f"{path} has none"
        raise ValueError(
            f"`train` must have lines of a source, a tab and a target with on_disk: {found}"
        ) from error
    rows = spread_rows(SAMPLE, len(whole))
    sample = Pairs()
    for both in zip(*whole.texts(rows), strict=True):
        sample.add(*(text.decode(errors="surrogateescape") for text in both))
    pairs_files.check_table(path, [*zip(sample.source, sample.target, strict=True)], *codes)
    print(f"train: {listed(config)}; the vocabulary is that of {sample}", flush=True)
    given = {name: each for name in ("valid", "test") if (each := getattr(config, name))}
    return pairs.load_beside(sample, codes, given, functools.partial(_sources_among, path))


def _sources_among(path: Path, wanted: set[str]) -> set[str]:
    """Those of the `wanted` sources, normalized ones, that stand in the file."""
    sources_of = (normalized(line.partition("\t")[0]) for line in lines(path))
    return {text for text in sources_of if text in wanted}


def identity(config: Any) -> list[str]:
    """What changes with the pairs in the file, wherever it lies, for `fingerprint`."""
    sizes = b"".join(side.tobytes() for side in _opened(config).byte_lengths())
    return [f"{zlib.crc32(sizes)}"]


def listed(config: Any) -> str:
    """What a card says of the training pairs."""
    whole = _opened(config)
    return f"{len(whole):,} pairs (skipped: {whole.left_out:,} without two sides)"


def _path(config: Any) -> Path:
    return Path(config.train.replace(pairs.HOLE, config.target_language))


def _opened(config: Any):
    path = _path(config)
    return _indexed(path, path.stat().st_mtime_ns, path.stat().st_size)


@functools.lru_cache(1)
def _indexed(path: Path, *_: int):
    from kzoo.batching import PairsOnDisk

    return PairsOnDisk(path)


def make_batches(model, valid: kzoo.batching.Corpus, run: Path, config: Any):
    """The training and validation batches; makes the weights of the model, too.

    Raises:
        ValueError: sources of the model begin with tags of languages, which those in a file lack.
    """
    from kzoo.batching import disk_batches

    if codes := model.source_tokenizer.languages:
        raise ValueError(
            "`init_from` must be a model of one target language with on_disk, got one of "
            f"{', '.join(codes)}."
        )
    dataset = functools.partial(
        disk_batches,
        _opened(config),
        model.source_tokenizer,
        model.target_tokenizer,
        config.batch_tokens * config.accumulate,
        max_length=config.max_length - 1,  # beside the token that ends or starts it
        seed=config.seed,
        start=position(run).batches,
        named=True,
    )
    batches = make_weights(model, dataset, config.init_from or config.model)
    return batches, kzoo.batching.token_batches(valid, config.batch_tokens)
