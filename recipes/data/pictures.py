"""Captioned pictures: one function per source and format, for image captioning.

    named sources   openmoji, openmoji-names       drawn by `scenes`, kept in `cache_dir()`
    formats         flickr8k, kaggle (8k and 30k), coco, karpathy, imagefolder, metadata
    front door      load_pictures -> Splits(train, valid, test);   noto_pictures -> Pictures

Every reader follows the rules of `recipes.data`: what is skipped is counted, what breaks its format
is a `ValueError` with its place. A reader returns {part: Pictures}: the official "train", "valid"
and "test" where the source has them, else "all". Pictures are not decoded here; one whose file is
missing is skipped and counted, unless all are. Nothing here imports TensorFlow.
"""

import os
from collections import Counter
from pathlib import Path

from recipes.data import files, scenes
from recipes.data.examples import Pictures
from recipes.data.pictures_files import (
    PARTS,
    coco,
    coco_folder,
    flickr8k,
    imagefolder,
    kaggle,
    karpathy,
    metadata,
    metadata_of,
    read_json,
    together,
)
from recipes.data.splits import Splits, chosen_place, hold_out, missing_shares

HELD_OUT_SHARE = 0.1  # of the pictures, for valid and again for test
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
            takes its place.
        train, valid, test: a Flickr8k token file or its folder, a Kaggle captions.txt or its
            folder, COCO's captions_*.json or the folder above annotations/, a Karpathy JSON, a
            .jsonl of rows as in metadata.jsonl, metadata.csv, or a folder with metadata.jsonl or
            metadata.csv, also one for each part.
        seed: draws the scenes of a named source, or picks the pictures that are held out.

    Returns:
        Splits of Pictures. The parts are the official ones where the source has any; of a
        source given as `valid` or `test` that part is taken, or all of it where it has no such
        part. What is missing is split off from train by group, save that `test` stays None where
        `valid` is official or both `train` and `valid` were given.
    """
    name, place = chosen_place(data, train, "openmoji")
    if train is None and data in NAMED_SOURCES:
        whole = imagefolder(NAMED_SOURCES[data](seed))
    else:
        whole = _read(name, place)
    parts = {name: whole[name] for name in PARTS if name in whole}
    closed = "valid" in parts or (train is not None and valid is not None)
    for name, place in (("valid", valid), ("test", test)):
        if place is not None:
            found = _read(name, place)
            parts[name] = found[name] if name in found else together(found)
    if not {"train", "all"} & {*whole}:
        raise ValueError(f"{train or data}: expected a part for training, got {', '.join(whole)}")
    rest = parts.pop("train") if "train" in parts else whole["all"]
    shares = missing_shares(parts, HELD_OUT_SHARE, is_closed=closed)
    splits = split(rest, **shares, seed=seed)._replace(**parts)
    if not splits.test:
        splits = splits._replace(test=None)
    for name, pictures in splits._asdict().items():
        files.say(f"{name}: {'not given' if pictures is None else pictures}")
    return splits


def split(pictures: Pictures, *, valid: float, test: float, seed: int = 0) -> Splits:
    """Holds out whole groups, as `splits.hold_out` does: shares of the pictures. A picture of no
    group is one by its path below the folder of all, so that every machine agrees."""
    paths = [picture.path.absolute() for picture in pictures.rows]
    root = os.path.commonpath([path.parent for path in paths])
    groups = [
        picture.group or path.relative_to(root).as_posix()
        for picture, path in zip(pictures.rows, paths, strict=True)
    ]
    home = hold_out(groups, valid=valid, test=test, seed=seed)
    parts = {"train": Pictures(skipped=Counter(pictures.skipped)), "valid": Pictures()}
    parts["test"] = Pictures()
    for picture, group in zip(pictures.rows, groups, strict=True):
        parts[home.get(group, "train")].rows.append(picture)
    for name, share in (("train", 1.0), ("valid", valid), ("test", test)):
        if share and not parts[name]:
            raise ValueError(
                f"Splitting must leave at least one picture in `{name}`, got none of "
                f"{len(pictures):,} pictures; give `train`, `valid` and `test` yourself."
            )
    return Splits(**parts)


def noto_pictures(seed: int = 0) -> Pictures:
    """The objects of the scenes "openmoji" one by one, drawn by other hands: Google's Noto.

    Raises:
        RuntimeError: there is no `apt-get`, with which the font comes.
    """
    return imagefolder(scenes.noto_objects(seed))["all"]


def _read(name: str, place: str) -> dict[str, Pictures]:
    """Reads what the argument `name` = `place` means."""
    path = Path(place)
    if path.is_dir():
        tokens = sorted([*path.glob("*.token*"), *path.glob("*_text/*.token*")])
        tokens = [token for token in tokens if ".lemma." not in f".{token.name.lower()}"]
        if any(path.glob("annotations/captions_*.json")):
            return coco_folder(path)
        if any(metadata_of(path / part) for part in ("", *sum(PARTS.values(), ()))):
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
            (karpathy, sorted(path.glob("dataset*.json"))),
        ):
            for each in paths:
                return reader(each)
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
