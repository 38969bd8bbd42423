"""Captioned pictures: one function per source and format, for image captioning.

    named sources   openmoji, openmoji-names       drawn by `recipes.scenes`, kept in `cache_dir()`
    formats         flickr8k, kaggle, coco, karpathy, imagefolder, metadata
    front door      load_pictures -> Splits(train, valid, test);   noto_pictures -> Pictures

Every reader follows the rules of `recipes.data`: what is skipped is counted, what breaks its format
is a `ValueError` with its place. A reader returns {part: Pictures}: the official "train", "valid"
and "test" where the source has them, else "all". Pictures are not decoded here, but each file must
be there. Nothing here imports TensorFlow.
"""

import json
import os
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from recipes import data as sources
from recipes import scenes
from recipes.data import Splits

HELD_OUT_SHARE = 0.1  # of the pictures, for valid and again for test
NAMED_SOURCES = {"openmoji": scenes.openmoji_scenes, "openmoji-names": scenes.openmoji_names}
PARTS = {  # what sources call them
    "train": ("train", "training", "restval"),  # Karpathy's restval is for training
    "valid": ("valid", "validation", "val", "dev"),
    "test": ("test", "testing"),
}
TEXT_KEYS = ("text", "caption", "captions")
FLICKR_FOLDERS = ("images", "Images", "Flicker8k_Dataset", "Flickr8k_Dataset", "flickr30k-images")


class Picture(NamedTuple):
    """A picture's file and what people said of it."""

    path: Path  # of a JPEG, PNG, GIF or BMP file
    captions: tuple[str, ...]  # at least one; all are references
    group: str  # what a split must not tear apart; "" means the path
    place: str  # where the picture is listed, for messages
    kind: str = ""  # what scores are given apart for, as "2 objects"; "" is no kind


@dataclass(frozen=True)
class Pictures:
    """Captioned pictures; `len(pictures)` is their number. `skipped` counts what was left out."""

    rows: list[Picture] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)

    def __len__(self) -> int:
        return len(self.rows)

    def __str__(self) -> str:
        captions = sum(len(picture.captions) for picture in self.rows)
        return sources.with_reasons(f"{len(self):,} pictures, {captions:,} captions", self.skipped)

    @property
    def references(self) -> list[list[str]]:
        return [list(picture.captions) for picture in self.rows]

    def add(self, path, captions: Iterable[str], place: str, group="", kind="") -> None:
        """Appends one picture with those of its captions that are texts, or counts why not.

        Raises:
            ValueError: if there is no such file.
        """
        if not Path(path).is_file():
            raise ValueError(f"{place}: expected a picture, but there is no {path}")
        texts = []
        for text in map(sources.one_line, captions):
            if not sources.is_utf8(text):
                self.skipped["captions with invalid UTF-8"] += 1
            elif sources.BLANK.fullmatch(text):
                self.skipped["empty captions"] += 1
            else:
                texts.append(text)
        if texts:
            self.rows.append(Picture(Path(path), tuple(texts), group, place, kind))
        else:
            self.skipped["pictures without a caption"] += 1


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
        data.Splits of Pictures. The parts are the official ones where the source has any; of a
        source given as `valid` or `test` that part is taken, or all of it where it has no such
        part. What is missing is split off from train by group, save that `test` stays None where
        `valid` is official or both `train` and `valid` were given.
    """
    if train is not None and data != "openmoji":
        raise ValueError(
            f"`data` and `train` must not both be given, got data={data!r}, train={train!r}."
        )
    if train is None and data in NAMED_SOURCES:
        whole = imagefolder(NAMED_SOURCES[data](seed))
    else:
        whole = _read(*(("data", data) if train is None else ("train", train)))
    parts = {name: whole[name] for name in PARTS if name in whole}
    closed = "valid" in parts or (train is not None and valid is not None)
    for name, place in (("valid", valid), ("test", test)):
        if place is not None:
            found = _read(name, place)
            parts[name] = found[name] if name in found else _all(found)
    if not {"train", "all"} & {*whole}:
        raise ValueError(f"{train or data}: expected a part for training, got {', '.join(whole)}")
    rest = parts.pop("train") if "train" in parts else whole["all"]
    shares = {name: 0.0 if name in parts else HELD_OUT_SHARE for name in ("valid", "test")}
    if closed:
        shares["test"] = 0.0
    splits = split(rest, **shares, seed=seed)._replace(**parts)
    if not splits.test:
        splits = splits._replace(test=None)
    for name, pictures in splits._asdict().items():
        sources.say(f"{name}: {'not given' if pictures is None else pictures}")
    return splits


def split(pictures: Pictures, *, valid: float, test: float, seed: int = 0) -> Splits:
    """Holds out whole groups, as `data.hold_out` does: shares of the pictures. A picture of no
    group is one by its path below the folder of all, so that every machine agrees."""
    paths = [picture.path.absolute() for picture in pictures.rows]
    root = os.path.commonpath([path.parent for path in paths])
    groups = [
        picture.group or path.relative_to(root).as_posix()
        for picture, path in zip(pictures.rows, paths, strict=True)
    ]
    home = sources.hold_out(groups, valid=valid, test=test, seed=seed)
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


# --- formats -------------------------------------------------------------------------------------


def flickr8k(path: str | Path) -> dict[str, Pictures]:
    """Flickr8k and 30k: lines "name.jpg#0<TAB>caption", and lists of the pictures of each part.

    The pictures are in a folder beside the token file or above it, with one of the names that the
    distributions have; the lists *.trainImages.txt, *.devImages.txt and *.testImages.txt are
    beside the token file. Pictures in no list are skipped and counted; without lists all are taken.
    """
    path = Path(path)
    captions, places = {}, {}
    for number, line in enumerate(sources.lines(path), start=1):
        found = re.fullmatch(r"(\S+)#\d+\t(.*)", line)
        if not found:
            raise ValueError(
                f"{path}:{number}: expected name.jpg#number, a tab and a caption, got {line[:80]!r}"
            )
        captions.setdefault(found[1], []).append(found[2])
        places.setdefault(found[1], f"{path}:{number}")
    lists = {
        part: (list_path, names)
        for part, ending in (("train", "train"), ("valid", "dev"), ("test", "test"))
        for list_path in path.parent.glob(f"*{ending}Images.txt")
        for names in [[line.strip() for line in sources.lines(list_path)]]
    }
    folder = _pictures_folder(path.parent, next(iter(captions), ""))
    parts = {}
    for part, (list_path, names) in lists.items():
        parts[part] = Pictures()
        for number, name in enumerate(names, start=1):
            place = f"{list_path}:{number}"
            if name and name not in places:
                raise ValueError(f"{place}: expected a picture with captions in {path}, got {name}")
            if name and name not in captions:
                raise ValueError(f"{place}: expected each picture in one list only, got {name}")
            if name:
                parts[part].add(folder / name, captions.pop(name), place)
    if not lists:
        parts["all"] = Pictures()
        for name, texts in captions.items():
            parts["all"].add(folder / name, texts, places[name])
    elif captions:
        next(iter(parts.values())).skipped["pictures in no list"] += len(captions)
    return _some(parts, path)


def kaggle(path: str | Path) -> dict[str, Pictures]:
    """captions.txt of Kaggle's Flickr8k: the columns image and caption, comma between, a row for
    each caption; the pictures are in Images/ beside it."""
    path = Path(path)
    rows = list(sources.csv_rows(path))
    if rows and not {"image", "caption"} <= {*rows[0][1]}:
        raise ValueError(f"{path}:1: expected the columns image and caption, got {[*rows[0][1]]}")
    folder = _pictures_folder(path.parent, rows[0][1]["image"] if rows else "")
    return _some(_merged((folder / row["image"], [row["caption"]], at) for at, row in rows), path)


def coco(path: str | Path) -> dict[str, Pictures]:
    """COCO's captions_train2017.json and its like: "images" with "id" and "file_name",
    "annotations" with "image_id" and "caption". The pictures are in train2017/ beside the folder of
    the file, or below images/."""
    path, tree = Path(path), _json(path, "images", "annotations")
    captions = {}
    for number, row in enumerate(tree["images"]):
        place = f"{path}, images[{number}]"
        name, key = _field(row, "file_name", str, place), _field(row, "id", int, place)
        captions[key] = (name, [], place)
    for number, row in enumerate(tree["annotations"]):
        place = f"{path}, annotations[{number}]"
        key = _field(row, "image_id", int, place)
        if key not in captions:
            raise ValueError(f"{place}: expected an image_id of the images, got {key}")
        captions[key][1].append(_field(row, "caption", str, place))
    _, _, ending = path.stem.partition("_")  # train2017
    places = [ending, f"images/{ending}", *FLICKR_FOLDERS, ""]
    roots = [root / place for root in (path.parent.parent, path.parent) for place in places]
    first = next(iter(captions.values()), ("",))[0]
    folder = next((root for root in roots if (root / first).is_file()), roots[0])
    rows = ((folder / name, texts, place) for name, texts, place in captions.values())
    return _some(_merged(rows), path)


def coco_folder(folder: str | Path) -> dict[str, Pictures]:
    """annotations/captions_train*.json and captions_val*.json, as COCO comes: train and valid."""
    found = {}
    for part, name in (("train", "train"), ("valid", "val"), ("test", "test")):
        paths = sorted(Path(folder, "annotations").glob(f"captions_{name}*.json"))
        if len(paths) > 1:
            raise ValueError(
                f"{folder}: expected one captions_{name}*.json, got {[path.name for path in paths]}"
            )
        if paths:
            found[part] = coco(paths[0])["all"]
    return found


def karpathy(path: str | Path) -> dict[str, Pictures]:
    """Karpathy's dataset_coco.json, dataset_flickr8k.json and dataset_flickr30k.json: "images" with
    "filename", perhaps "filepath", "split" and "sentences" with "raw". The split restval is
    training. The pictures are beside the file, below images/ or in a folder named as Flickr's."""
    path, tree = Path(path), _json(path, "images")
    found, folder = {}, None
    for number, row in enumerate(tree["images"]):
        place = f"{path}, images[{number}]"
        split_name = _field(row, "split", str, place)
        part = next((part for part, names in PARTS.items() if split_name in names), None)
        if part is None:
            raise ValueError(f"{place}: expected train, restval, val or test, got {split_name!r}")
        name = str(Path(row.get("filepath", ""), _field(row, "filename", str, place)))
        texts = [_field(s, "raw", str, place) for s in _field(row, "sentences", list, place)]
        folder = folder or _pictures_folder(path.parent, name)
        found.setdefault(part, Pictures()).add(folder / name, texts, place)
    return _some(found, path)


def imagefolder(folder: str | Path) -> dict[str, Pictures]:
    """A folder with metadata.jsonl or metadata.csv (Hugging Face), or with one in train/,
    validation/ and test/ each: "file_name" and a text, or a list of texts, under one of
    `TEXT_KEYS`; perhaps "kind" and "group". Several rows of one file are its captions."""
    path = _metadata(Path(folder))
    if path is not None:
        return metadata(path)
    found = {}
    for part, names in PARTS.items():
        for path in filter(None, (_metadata(Path(folder, name)) for name in names)):
            found |= {part: metadata(path)["all"]}
    return found


def metadata(path: str | Path) -> dict[str, Pictures]:
    """A .jsonl or .csv file with rows as `imagefolder` has them; files are relative to its own
    folder."""
    path = Path(path)
    return _some(_merged(_metadata_rows(path)), path)


def _metadata(folder: Path) -> Path | None:
    paths = folder / "metadata.jsonl", folder / "metadata.csv"
    return next((path for path in paths if path.is_file()), None)


def _metadata_rows(path: Path) -> Iterable[tuple]:
    for place, row in (sources.json_lines if path.suffix == ".jsonl" else sources.csv_rows)(path):
        texts = next((row[key] for key in TEXT_KEYS if row.get(key) is not None), None)
        texts = [texts] if isinstance(texts, str) else texts
        if not isinstance(row.get("file_name"), str) or not _are_texts(texts):
            raise ValueError(
                f'{place}: expected "file_name" and one of {", ".join(TEXT_KEYS)}, '
                f"got {str(row)[:80]}"
            )
        group, kind = (str(row.get(key) or "") for key in ("group", "kind"))
        yield path.parent / row["file_name"], texts, place, group, kind


def _are_texts(texts: object) -> bool:
    return isinstance(texts, list) and all(isinstance(text, str) for text in texts)


def _merged(rows: Iterable[tuple]) -> dict[str, Pictures]:
    """One picture for all rows (path, captions, place, ...) of a path."""
    merged = {}
    for path, texts, *rest in rows:
        merged.setdefault(path, (path, [], *rest))[1].extend(texts)
    pictures = Pictures()
    for row in merged.values():
        pictures.add(*row)
    return {"all": pictures}


def _all(parts: dict[str, Pictures]) -> Pictures:
    whole = Pictures()
    for part in parts.values():
        whole.rows.extend(part.rows)
        whole.skipped.update(part.skipped)
    return whole


def _pictures_folder(beside: Path, name: str) -> Path:
    """The folder, beside the file that lists it or one above, that holds the picture `name`."""
    names = [*FLICKR_FOLDERS, "Flickr8k_Dataset/Flicker8k_Dataset", "Images/Images", ""]
    folders = [root / each for root in (beside, beside.parent) for each in names]
    there = (folder for folder in folders if name and (folder / name).is_file())
    return next(there, next(filter(Path.is_dir, folders)))


def _json(path: Path, *keys: str) -> dict:
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, *sources.UNREADABLE) as error:
        raise ValueError(f"{path}: expected a JSON object, got: {error}") from error
    if not isinstance(tree, dict) or not all(isinstance(tree.get(key), list) for key in keys):
        raise ValueError(f"{path}: expected an object with the lists {', '.join(keys)}")
    return tree


def _field(row: object, key: str, kind: type, place: str):
    if not isinstance(row, dict) or not isinstance(row.get(key), kind):
        raise ValueError(f"{place}: expected {kind.__name__} {key!r}, got {str(row)[:80]}")
    return row[key]


def _some(parts: dict[str, Pictures], place: object) -> dict[str, Pictures]:
    for name, pictures in parts.items():
        if not pictures:
            raise ValueError(f"{place}: expected at least one picture in {name}, got {pictures}")
    return parts


def _read(name: str, place: str) -> dict[str, Pictures]:
    """Reads what the argument `name` = `place` means."""
    path = Path(place)
    if path.is_dir():
        tokens = sorted([*path.glob("*.token*"), *path.glob("*_text/*.token*")])
        tokens = [token for token in tokens if ".lemma." not in f".{token.name.lower()}"]
        if any(path.glob("annotations/captions_*.json")):
            return coco_folder(path)
        if any(_metadata(path / part) for part in ("", *sum(PARTS.values(), ()))):
            return imagefolder(path)
        for reader, paths in (
            (flickr8k, tokens),
            (kaggle, path.glob("captions.txt")),
            (karpathy, sorted(path.glob("dataset*.json"))),
        ):
            for each in paths:
                return reader(each)
    elif path.is_file() and ".token" in path.name:
        return flickr8k(path)
    elif path.is_file() and (path.suffix == ".jsonl" or path.name == "metadata.csv"):
        return metadata(path)
    elif path.is_file() and path.suffix in (".txt", ".csv"):
        return kaggle(path)
    elif path.is_file() and path.suffix == ".json":
        return (coco if "annotations" in _json(path, "images") else karpathy)(path)
    named = f", or one of {sorted(NAMED_SOURCES)}" if name == "data" else ""
    if not path.exists():
        raise ValueError(f"`{name}` must be a file or folder{named}, but {place!r} is missing.")
    raise ValueError(
        f"`{name}` must be a token file, captions.txt, a .jsonl or metadata.csv, a JSON of COCO or "
        f"Karpathy, or a folder of one of the known shapes{named}, got {place!r}; see --help."
    )
