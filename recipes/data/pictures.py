"""Captioned pictures: one function per source and format, for image captioning.

    named sources   openmoji, openmoji-names       drawn by `scenes`, kept in `cache_dir()`
    formats         flickr8k, kaggle (8k and 30k), coco, karpathy, imagefolder, metadata
    front door      load_pictures -> Splits(train, valid, test);   noto_pictures -> Pictures

Every reader follows the rules of `recipes.data`: what is skipped is counted, what breaks its format
is a `ValueError` with its place. A reader returns {part: Pictures}: the official "train", "valid"
and "test" where the source has them, else "all". Pictures are not decoded here; one whose file is
missing is skipped and counted, unless all are. Nothing here imports TensorFlow.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from recipes.data import files, scenes, sources
from recipes.data.examples import Pictures
from recipes.data.pictures_files import (
    coco,
    coco_folder,
    flickr8k,
    imagefolder,
    kaggle,
    karpathy,
    metadata,
    read_json,
)
from recipes.data.splits import Splits, chosen_place, missing_shares, split_rows

HELD_OUT_PICTURES = 0.1  # of the pictures, for valid and again for test
NAMED_SOURCES = {"openmoji": scenes.openmoji_scenes, "openmoji-names": scenes.openmoji_names}


def load_pictures(
    data: str = "openmoji",
    *,
    train: str | None = None,
    valid: str | None = None,
    test: str | None = None,
    seed: int = 0,
) -> Splits:
    """Reads train, valid and test pictures; prints to stderr how many came and were skipped.

    Args:
        data: "openmoji" (scenes), "openmoji-names" (single emoji), or a path as for `train`, which
            takes its place. Either may name several, with weights: "openmoji:1,mine.jsonl:2".
        train, valid, test: a Flickr8k token file or its folder, a Kaggle captions.txt or its
            folder, COCO's captions_*.json or the folder above annotations/, a Karpathy JSON, a
            .jsonl of rows as in metadata.jsonl, metadata.csv, or a folder with metadata.jsonl or
            metadata.csv, also one for each part.
        seed: draws the scenes of a named source, or picks the pictures that are held out.

    Returns:
        Splits of Pictures. The parts are the official ones where the source has any; of a
        source given as `valid` or `test` that part is taken, or all of it where it has no such
        part. What is missing is split off from train by group, save that `test` stays None where
        `valid` is official or both `train` and `valid` were given. Of several sources each has its
        own parts, of which those of one name are put together; what is held out of one source,
        files byte for byte and whole groups, is in no training of another.
    """
    name, place = chosen_place(data, train, "openmoji")
    names = list(sources.weights(place))
    given = {}
    for part, path in (("valid", valid), ("test", test)):
        if path is not None:
            found = _read(part, path)
            if not found:
                raise ValueError(f"`{part}` must have a known part, got none in {path!r}.")
            given[part] = found[part] if part in found else Pictures.joined(found.values())
    own = []
    for each in names:
        is_named = train is None and each in NAMED_SOURCES
        whole = imagefolder(NAMED_SOURCES[each](seed)) if is_named else _read(name, each)
        is_closed = train is not None and valid is not None
        own.append(_own_splits(whole, each, given, is_closed=is_closed, seed=seed))
        if len(names) > 1:
            parts = (f"{part} in {key}" for key, part in own[-1]._asdict().items() if part)
            files.say(f"{each}: {', '.join(parts)}")
    splits = own[0]
    if len(names) > 1:
        parts = [[part.of_source(each) for part in s] for each, s in zip(names, own, strict=True)]
        splits = Splits(*map(Pictures.joined, zip(*parts, strict=True)))
    splits = splits._replace(**given)
    if len(names) > 1:
        splits = _held_out_of_all(splits)
        for part, path in (("valid", valid), ("train", None)):
            if not getattr(splits, part):
                raise ValueError(
                    f"`{part}` must have at least one picture that is not held out, got none in "
                    f"{path or place!r}."
                )
        tested = {picture.source for picture in splits.test.rows}
        if untested := {*names} - tested if splits.test and test is None else ():
            files.say(f"test: no pictures of {', '.join(sorted(untested))}")
    known = {} if len(names) > 1 else _also_trained(splits.train, given)
    if not splits.test:
        splits = splits._replace(test=None)
    splits.say(known, "pictures")
    return splits


def _own_splits(
    whole: dict[str, Pictures], place: str, given: Collection[str], *, is_closed: bool, seed: int
) -> Splits:
    """The parts of one source, official or split off; those that are `given` elsewhere are empty.

    Raises:
        ValueError: it has nothing to train on.
    """
    parts = {name: whole[name] for name in files.PARTS if name in whole}
    if not {"train", "all"} & {*whole}:
        raise ValueError(f"{place}: expected a part for training, got {', '.join(whole)}")
    rest = parts.pop("train") if "train" in parts else whole["all"]
    is_closed = is_closed or "valid" in parts
    shares = missing_shares({*parts, *given}, HELD_OUT_PICTURES, is_closed=is_closed)
    parts = {name: part for name, part in parts.items() if name not in given}
    return split(rest, **shares, seed=seed, place=place)._replace(**parts)


def _held_out_of_all(splits: Splits) -> Splits:
    """The splits without the pictures of train that are in valid or test, too, and without those of
    valid that are in test: another source may have the same file, or pictures of the same group, in
    another part."""
    contents = _contents({picture.path for part in splits for picture in part.rows})
    taken_files: set[str] = set()
    taken_groups: dict[str, set[str]] = {}  # {group: the sources that hold it out}
    parts = {}
    for name in reversed(Splits._fields):
        part = getattr(splits, name)
        kept = [
            row
            for row in part.rows
            if contents[row.path] not in taken_files
            and not taken_groups.get(row.group, set()) - {row.source}
        ]
        parts[name] = replace(part, rows=kept, skipped=Counter(part.skipped))
        if len(kept) < len(part):
            parts[name].skipped["pictures that are held out"] += len(part) - len(kept)
        for row in kept:
            taken_files.add(contents[row.path])
            if row.group:
                taken_groups.setdefault(row.group, set()).add(row.source)
    return Splits(**parts)


def _also_trained(train: Pictures, given: dict[str, Pictures]) -> dict[str, int]:
    """{part: how many of its pictures are in train, too}, byte for byte."""
    paths = {row.path for part in given.values() for row in part.rows}
    sizes = {os.path.getsize(path) for path in paths}
    likely = [row.path for row in train.rows if given and os.path.getsize(row.path) in sizes]
    contents = _contents(paths.union(likely))
    trained = {contents[path] for path in likely}
    return {
        name: sum(contents[row.path] in trained for row in part.rows)
        for name, part in given.items()
    }


def _contents(paths: Collection[Path]) -> dict[Path, str]:
    """{path: what files with the same bytes, and no others, have in common}."""
    real = {path: os.path.realpath(path) for path in paths}
    sizes = {path: os.path.getsize(path) for path in {*real.values()}}
    counts = Counter(sizes.values())
    marks = {
        path: str(size)
        if counts[size] == 1
        else hashlib.sha256(Path(path).read_bytes()).hexdigest()
        for path, size in sizes.items()
    }
    return {path: marks[each] for path, each in real.items()}


def split(
    pictures: Pictures, *, valid: float, test: float, seed: int = 0, place: str = "the pictures"
) -> Splits:
    """Holds out whole groups, as `splits.hold_out` does: shares of the pictures. A picture of no
    group is one by its path below the folder of all, so that every machine agrees. `place` is what
    messages call them."""
    both = zip(pictures.rows, pictures.names, strict=True)
    groups = [picture.group or name for picture, name in both]
    shares = {"valid": valid, "test": test}
    return split_rows(pictures, groups, **shares, seed=seed, one="picture", place=place)


def noto_pictures(seed: int = 0) -> Pictures:
    """The objects of the scenes "openmoji" one by one, drawn by other hands: Google's Noto.

    Raises:
        RuntimeError: there is no `apt-get`, with which the font comes.
    """
    return imagefolder(scenes.noto_objects(seed))["all"]


def _only(folder: Path, pattern: str) -> list[Path]:
    """The file of such a name, if there is one.

    Raises:
        ValueError: there are several.
    """
    paths = sorted(folder.glob(pattern))
    if len(paths) > 1:
        raise ValueError(
            f"{folder}: expected one {pattern}, got {[path.name for path in paths]}; name the file."
        )
    return paths


def _read(name: str, place: str) -> dict[str, Pictures]:
    """Reads what the argument `name` = `place` means."""
    path = Path(place)
    if path.is_dir():
        tokens = sorted([*path.glob("*.token*"), *path.glob("*_text/*.token*")])
        tokens = [token for token in tokens if ".lemma." not in f".{token.name.lower()}"]
        if any(path.glob("annotations/captions_*.json")):
            return coco_folder(path)
        if files.metadata_of(path) or files.metadata_of_parts(path):
            return imagefolder(path)
        for reader, paths in (
            (flickr8k, tokens),
            (
                kaggle,
                [
                    *path.glob("captions.txt"),
                    *path.glob("results.csv"),
                    *path.glob("*/results.csv"),
                ],
            ),
        ):
            for each in paths:
                return reader(each)
        for each in _only(path, "dataset*.json"):
            return karpathy(each)
    elif files.is_file(path):
        suffix = files.plain_suffix(path)
        if ".token" in path.name:
            return flickr8k(path)
        if suffix == ".jsonl" or path.name.startswith("metadata.csv"):
            return metadata(path)
        if suffix in (".txt", ".csv"):
            return kaggle(path)
        if suffix == ".json":
            return (coco if "annotations" in read_json(path, "images") else karpathy)(path)
    named = f", or one of {sorted(NAMED_SOURCES)}" if name == "data" else ""
    if not path.exists():
        raise ValueError(f"`{name}` must be a file or folder{named}, but {place!r} is missing.")
    raise ValueError(
        f"`{name}` must be a token file, captions.txt, a .jsonl or metadata.csv, a JSON of COCO or "
        f"Karpathy, or a folder of one of the known shapes{named}, got {place!r}; see --help."
    )
