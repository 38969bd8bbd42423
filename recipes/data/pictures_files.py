"""Captioned pictures out of files: Flickr8k, Kaggle, COCO, Karpathy, folders with metadata."""

import re
from collections.abc import Collection, Iterable
from pathlib import Path

from recipes.data import files
from recipes.data.examples import Pictures

TEXT_KEYS = ("text", "caption", "captions")
FLICKR_FOLDERS = (
    *("images", "Images", "Flicker8k_Dataset", "Flickr8k_Dataset"),
    *("flickr30k-images", "flickr30k_images"),
)


def flickr8k(path: str | Path) -> dict[str, Pictures]:
    """Flickr8k and 30k: lines "name.jpg#0<TAB>caption", and lists of the pictures of each part.

    The pictures are in a folder beside the token file or above it, with one of the names that the
    distributions have; the lists *.trainImages.txt, *.devImages.txt and *.testImages.txt are
    beside the token file. Pictures in no list are skipped and counted; without lists all are taken.
    """
    path = Path(path)
    captions, places = {}, {}
    for place, line in files.rows(path):
        found = re.fullmatch(r"(\S+)#\d+\t(.*)", line)
        if not found:
            raise ValueError(
                f"{place}: expected name.jpg#number, a tab and a caption, got {line[:80]!r}"
            )
        captions.setdefault(found[1], []).append(found[2])
        places.setdefault(found[1], place)
    lists = {
        part: (list_path, names)
        for part, ending in (("train", "train"), ("valid", "dev"), ("test", "test"))
        for list_path in path.parent.glob(f"*{ending}Images.txt")
        for names in [[line.strip() for line in files.lines(list_path)]]
    }
    folder = _pictures_folder(path.parent, captions)
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
    return some(parts, path)


def kaggle(path: str | Path) -> dict[str, Pictures]:
    """captions.txt of Kaggle's Flickr8k: the columns image and caption, comma between, a row for
    each caption; the pictures are in Images/ beside it. results.csv of its Flickr30k: the columns
    image_name, comment_number and comment with | between; flickr30k_images/ beside it."""
    path = Path(path)
    if FLICKR30K_HEADER.fullmatch(next((line for _, line in files.rows(path)), "")):
        return _flickr30k_results(path)
    rows = list(files.csv_rows(path))
    if rows and not {"image", "caption"} <= {*rows[0][1]}:
        raise ValueError(f"{path}:1: expected the columns image and caption, got {[*rows[0][1]]}")
    folder = _pictures_folder(path.parent, [row["image"] for _, row in rows])
    return some(_merged((folder / row["image"], [row["caption"]], at) for at, row in rows), path)


FLICKR30K_HEADER = re.compile(r"\s*image_name\s*\|\s*comment_number\s*\|\s*comment\s*")


def _flickr30k_results(path: Path) -> dict[str, Pictures]:
    found = []
    for place, line in list(files.rows(path))[1:]:
        # One row of the 158,915 has no | behind its number: "2199200615.jpg| 4   A dog runs ...".
        row = re.fullmatch(r"\s*([^|]+?)\s*\|\s*\d+\s*(?:\||\s)(.*)", line)
        if not row:
            raise ValueError(f"{place}: expected name.jpg| number| caption, got {line[:80]!r}")
        found.append((row[1], [row[2]], place))
    folder = _pictures_folder(path.parent, [name for name, *_ in found])
    return some(_merged((folder / name, texts, place) for name, texts, place in found), path)


def coco(path: str | Path) -> dict[str, Pictures]:
    """COCO's captions_train2017.json and its like: "images" with "id" and "file_name",
    "annotations" with "image_id" and "caption". The pictures are in train2017/ beside the folder of
    the file, or below images/."""
    path, tree = Path(path), read_json(path, "images", "annotations")
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
    _, _, ending = Path(files.plain_name(path)).stem.partition("_")  # train2017
    places = [ending, f"images/{ending}", *FLICKR_FOLDERS, ""]
    roots = [root / place for root in (path.parent.parent, path.parent) for place in places]
    folder = _folder_of([name for name, *_ in captions.values()], roots) or roots[0]
    rows = ((folder / name, texts, place) for name, texts, place in captions.values())
    return some(_merged(rows), path)


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
    path, tree = Path(path), read_json(path, "images")
    rows = []
    for number, row in enumerate(tree["images"]):
        place = f"{path}, images[{number}]"
        split_name = _field(row, "split", str, place)
        part = next((part for part, names in files.PARTS.items() if split_name in names), None)
        if part is None:
            raise ValueError(f"{place}: expected train, restval, val or test, got {split_name!r}")
        within = _field({"filepath": "", **row}, "filepath", str, place)
        name = str(Path(within, _field(row, "filename", str, place)))
        texts = [_field(s, "raw", str, place) for s in _field(row, "sentences", list, place)]
        rows.append((part, name, texts, place))
    folder = _pictures_folder(path.parent, [name for _, name, *_ in rows])
    found = {}
    for part, name, texts, place in rows:
        found.setdefault(part, Pictures()).add(folder / name, texts, place)
    return some(found, path)


def imagefolder(folder: str | Path) -> dict[str, Pictures]:
    """A folder with metadata.jsonl or metadata.csv (Hugging Face), or with one in train/,
    validation/ and test/ each: "file_name" and a text, or a list of texts, under one of
    `TEXT_KEYS`; perhaps "kind" and "group". Several rows of one file are its captions."""
    path = files.metadata_of(folder)
    if path is not None:
        return metadata(path)
    parts = files.metadata_of_parts(folder)
    return {part: metadata(path)["all"] for part, path in parts.items()}


def metadata(path: str | Path) -> dict[str, Pictures]:
    """A .jsonl or .csv file with rows as `imagefolder` has them; files are relative to its own
    folder."""
    path = Path(path)
    return some(_merged(_metadata_rows(path)), path)


def _metadata_rows(path: Path) -> Iterable[tuple]:
    for place, row in files.metadata_rows(path):
        texts = next((row[key] for key in TEXT_KEYS if row.get(key) is not None), None)
        texts = [texts] if isinstance(texts, str) else texts
        if not isinstance(row.get("file_name"), str) or not _are_texts(texts):
            raise ValueError(
                f'{place}: expected "file_name" and one of {", ".join(TEXT_KEYS)}, '
                f"got {str(row)[:80]}"
            )
        group, kind = (
            files.text_in(row, [key], place, kinds=(str, int)) for key in ("group", "kind")
        )
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


def _pictures_folder(beside: Path, pictures: Collection[str]) -> Path:
    """The folder, beside the file that lists them or one above, that holds the pictures."""
    twice = (
        "Flickr8k_Dataset/Flicker8k_Dataset",
        "Images/Images",
        "flickr30k_images/flickr30k_images",
    )
    names = [*FLICKR_FOLDERS, *twice, ""]
    folders = [root / each for root in (beside, beside.parent) for each in names]
    return _folder_of(pictures, folders) or next(filter(Path.is_dir, folders))


def _folder_of(pictures: Collection[str], folders: Iterable[Path]) -> Path | None:
    """The first of the folders that holds one of the pictures: some may be missing."""
    for folder in filter(Path.is_dir, folders):
        if any(name and files.is_file(folder / name) for name in pictures):
            return folder
    return None


def read_json(path: Path, *keys: str) -> dict:
    tree = files.read_json(path)
    if not isinstance(tree, dict) or not all(isinstance(tree.get(key), list) for key in keys):
        raise ValueError(f"{path}: expected an object with the lists {', '.join(keys)}")
    return tree


def _field(row: object, key: str, kind: type, place: str):
    if not isinstance(row, dict) or not isinstance(row.get(key), kind):
        raise ValueError(f"{place}: expected {kind.__name__} {key!r}, got {str(row)[:80]}")
    return row[key]


def some(parts: dict[str, Pictures], place: object) -> dict[str, Pictures]:
    """The parts, if each has a picture; a file that is missing is an error where all are."""
    for name, pictures in parts.items():
        if not pictures:
            first = f"; the first: {pictures.missing[0]}" if pictures.missing else ""
            raise ValueError(
                f"{place}: expected at least one picture in {name}, got {pictures}{first}"
            )
    return parts
