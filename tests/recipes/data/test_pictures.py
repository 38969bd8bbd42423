"""Readers of captioned pictures: every format, what they skip and count, what they refuse."""

import gzip
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from recipes.data import drawings, pictures, pictures_files, scenes
from recipes.data.examples import Pictures
from recipes.data.pictures import load_pictures


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KZOO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\xff\xd8 not decoded here, " + os.fsencode(path))
    return path


def write(path, *lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def rows(found, folder):
    return [(str(p.path.relative_to(folder)), list(p.captions)) for p in found.rows]


def test_reading_pictures_needs_no_tensorflow():
    code = "import recipes.data.pictures, sys; sys.exit('tensorflow' in sys.modules)"
    root = Path(pictures.__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=root).returncode == 0


# --- formats -------------------------------------------------------------------------------------


def flickr(folder, images="Flicker8k_Dataset"):
    lines = [f"{name}.jpg#{n}\t{name} {n} ." for name in "abcde" for n in (0, 1)]
    for name in "abcd":
        picture(folder / images / f"{name}.jpg")
    write(folder / "Flickr_8k.trainImages.txt", "b.jpg", "a.jpg", "")
    write(folder / "Flickr_8k.devImages.txt", "c.jpg")
    return write(folder / "Flickr8k.token.txt", *lines)


@pytest.mark.parametrize(
    "images", ["images", "../Flicker8k_Dataset", "Flickr8k_Dataset/Flicker8k_Dataset", "."]
)
def test_flickr8k_has_a_token_file_and_lists_of_its_parts(images, tmp_path):
    path = flickr(tmp_path / "text", images)
    parts = pictures_files.flickr8k(path)
    folder = (tmp_path / "text" / images).resolve()
    resolved = {
        name: [(str(p.path.resolve().relative_to(folder)), p.captions) for p in part.rows]
        for name, part in parts.items()
    }
    expected = {"train": ["b", "a"], "valid": ["c"]}
    assert resolved == {
        part: [(f"{name}.jpg", (f"{name} 0 .", f"{name} 1 .")) for name in names]
        for part, names in expected.items()
    }
    assert parts["train"].skipped == {"pictures in no list": 2}  # one of them has no file
    assert str(parts["train"]) == "2 pictures, 4 captions (skipped: 2 pictures in no list)"
    assert parts["train"].rows[1].place.endswith("Flickr_8k.trainImages.txt:2")
    write(tmp_path / "text/Flickr_8k.testImages.txt", "d.jpg")
    assert len(pictures_files.flickr8k(path)["test"]) == 1


def test_flickr_without_lists_is_one_whole(tmp_path):
    picture(tmp_path / "flickr30k-images/1.jpg")
    path = write(tmp_path / "results.token", "1.jpg#0\tOne.", "1.jpg#1\t  two  dogs ")
    (whole,) = pictures_files.flickr8k(path).values()
    assert rows(whole, tmp_path) == [("flickr30k-images/1.jpg", ["One.", "two dogs"])]
    assert whole.rows[0].place == f"{path}:1"


@pytest.mark.parametrize(
    ("name", "line", "message"),
    [
        ("Flickr8k.token.txt", "a.jpg\tx", r"token\.txt:1: expected name\.jpg#number, a tab and"),
        ("Flickr_8k.devImages.txt", "x.jpg", r"devImages\.txt:1: expected a picture with captions"),
        (
            "Flickr_8k.devImages.txt",
            "e.jpg",
            r"devImages\.txt:1: expected a picture, .*no .*e\.jpg",
        ),
        ("Flickr_8k.devImages.txt", "", r"token\.txt: expected at least one picture in valid"),
        ("Flickr_8k.devImages.txt", "b.jpg", r"devImages\.txt:1: expected each picture in one li"),
    ],
)
def test_a_broken_line_of_flickr8k_is_named(name, line, message, tmp_path):
    path = flickr(tmp_path)
    write(tmp_path / name, line)
    with pytest.raises(ValueError, match=message):
        pictures_files.flickr8k(path)


def test_flickr8k_has_captions_of_a_picture_that_is_not_there(tmp_path):
    path = flickr(tmp_path)
    for name in ("Flickr_8k.trainImages.txt", "Flickr_8k.devImages.txt"):
        (tmp_path / name).unlink()
    (whole,) = pictures_files.flickr8k(path).values()
    assert [picture.path.stem for picture in whole.rows] == ["a", "b", "c", "d"]
    assert whole.skipped == {"pictures without a file": 1}
    assert whole.missing[0].startswith(f"{path}:9: expected a picture, but there is no ")
    write(tmp_path / "Flickr_8k.trainImages.txt", "a.jpg", "e.jpg", "b.jpg")
    assert pictures_files.flickr8k(path)["train"].skipped["pictures without a file"] == 1


@pytest.mark.parametrize("images", ["flickr30k_images", "flickr30k_images/flickr30k_images", "."])
def test_flickr30k_of_kaggle_has_bars_and_one_row_that_lacks_one(images, tmp_path):
    picture(tmp_path / images / "1000092795.jpg")
    picture(tmp_path / images / "2199200615.jpg")
    lines = [
        "image_name| comment_number| comment",
        "1000092795.jpg| 0| Two young guys | with hair .",
        "1000092795.jpg| 1| Two young men .",
        "2199200615.jpg| 4   A dog runs across the grass .",
        "2199200615.jpg| 3|",
        "",
    ]
    path = write(tmp_path / "results.csv", *lines)
    for place in (path, tmp_path):
        (whole,) = pictures._read("data", str(place)).values()
        assert rows(whole, tmp_path / images) == [
            ("1000092795.jpg", ["Two young guys | with hair .", "Two young men ."]),
            ("2199200615.jpg", ["A dog runs across the grass ."]),
        ]
        assert whole.skipped == {"empty captions": 1}
    write(path, lines[0], "1000092795.jpg, 0, Two")
    with pytest.raises(
        ValueError, match=r"results\.csv:2: expected name\.jpg\| number\| caption, go"
    ):
        pictures_files.kaggle(path)


COCO = (
    '{"images": [{"id": 1, "file_name": "a.jpg"}], '
    '"annotations": [{"image_id": 1, "caption": "x"}]}'
)
KARPATHY = '{"images": [{"filename": "a.jpg", "split": "train", "sentences": [{"raw": "x"}]}]}'


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("results.token", "a.jpg#0\tx"),
        ("captions.txt", "image,caption\na.jpg,x"),
        ("results.csv", "image_name| comment_number| comment\na.jpg| 0| x"),
        ("metadata.csv", "file_name,text\na.jpg,x"),
        ("a.jsonl", '{"file_name": "a.jpg", "text": "x"}'),
        ("coco.json", COCO),
        ("dataset.json", KARPATHY),
    ],
)
def test_every_reader_opens_its_file_in_the_same_way(name, text, tmp_path):
    picture(tmp_path / "a.jpg")
    path = tmp_path / name
    for content in (text, f"\ufeff{text}\n", f"{text}\r\n", f"{text}\n \n\n"):
        path.write_text(content, encoding="utf-8", newline="")
        assert together(path).references == [["x"]]
    path.write_text(text, encoding="utf-16")
    with pytest.raises(ValueError, match=rf"{name}:1: expected UTF-8, got UTF-16\."):
        together(path)
    compressed = tmp_path / f"{name}.gz"
    compressed.write_bytes(gzip.compress(text.encode()))
    assert together(compressed).references == [["x"]]


def together(path):
    return Pictures.joined(pictures._read("data", str(path)).values())


@pytest.mark.parametrize(
    "text", [100_000 * "[", 100_000 * '{"images":', '{"images": [1' + 5000 * "9"]
)
def test_deep_json_is_named(text, tmp_path):
    path = write(tmp_path / "a.json", text)
    with pytest.raises(ValueError, match=r"a\.json: expected a JSON object, got: "):
        pictures._read("data", str(path))


def test_kaggle_has_a_row_for_each_caption(tmp_path):
    picture(tmp_path / "Images/a.jpg")
    picture(tmp_path / "Images/b.jpg")
    path = write(
        tmp_path / "captions.txt",
        "image,caption",
        "a.jpg,A child .",
        'b.jpg,"Two dogs , one ""red"" ."',
        'a.jpg,"A\ngirl ."',
        "b.jpg, ",
    )
    (whole,) = pictures_files.kaggle(path).values()
    assert rows(whole, tmp_path / "Images") == [
        ("a.jpg", ["A child .", "A girl ."]),
        ("b.jpg", ['Two dogs , one "red" .']),
    ]
    assert whole.skipped == {"empty captions": 1}
    assert whole.rows[1].place == f"{path}:3"
    for line, message in (
        ("a.jpg,one, two", r"captions\.txt:2: expected 2 columns"),
        ("a.jpg", r"captions\.txt:2: expected 2 columns"),
        ('a.jpg,"one', r"captions\.txt:2: expected a row of CSV, got: unexpected end of data"),
        ("c.jpg,one", r"captions\.txt:2: expected a picture, but there is no .*c\.jpg"),
    ):
        write(path, "image,caption", line)
        with pytest.raises(ValueError, match=message):
            pictures_files.kaggle(path)
    write(path, "name,caption", "a.jpg,x")
    with pytest.raises(
        ValueError, match=r"captions\.txt:1: expected the columns image and caption"
    ):
        pictures_files.kaggle(path)
    write(path, "image,caption")
    with pytest.raises(ValueError, match=r"captions\.txt: expected at least one picture in all"):
        pictures_files.kaggle(path)


def coco_file(path, name="1.jpg", **changes):
    tree = {
        "images": [{"id": 7, "file_name": name}, {"id": 9, "file_name": name.replace("1", "2")}],
        "annotations": [
            {"image_id": 7, "id": 1, "caption": "A cat.\n"},
            {"image_id": 7, "id": 2, "caption": "One cat"},
            {"image_id": 9, "id": 3, "caption": "A dog"},
        ],
    }
    return write(path, json.dumps(tree | changes))


def test_the_first_picture_of_a_list_may_be_missing(tmp_path):
    picture(tmp_path / "images/val2017/2.jpg")
    path = coco_file(tmp_path / "annotations/captions_val2017.json")
    (whole,) = pictures_files.coco(path).values()
    assert rows(whole, tmp_path / "images/val2017") == [("2.jpg", ["A dog"])]
    assert whole.skipped == {"pictures without a file": 1}
    picture(tmp_path / "k/Images/Images/2.jpg")
    path = write(tmp_path / "k/captions.txt", "image,caption", "1.jpg,A cat", "2.jpg,A dog")
    (whole,) = pictures_files.kaggle(path).values()
    assert rows(whole, tmp_path / "k/Images/Images") == [("2.jpg", ["A dog"])]


@pytest.mark.parametrize("folder", ["val2017", "images/val2017", "images"])
def test_coco_joins_annotations_with_images(folder, tmp_path):
    picture(tmp_path / folder / "1.jpg")
    picture(tmp_path / folder / "2.jpg")
    path = coco_file(tmp_path / "annotations/captions_val2017.json")
    (whole,) = pictures_files.coco(path).values()
    expected = [("1.jpg", ["A cat.", "One cat"]), ("2.jpg", ["A dog"])]
    assert rows(whole, tmp_path / folder) == expected
    coco_file(path, annotations=[{"image_id": 9, "caption": "A dog"}])
    (whole,) = pictures_files.coco(path).values()
    assert whole.skipped == {"pictures without a caption": 1}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"annotations": None}, r"json: expected an object with the lists images, annotations"),
        ({"images": [{"id": 7}]}, r"json, images\[0\]: expected str 'file_name', got \{'id': 7\}"),
        ({"images": [3]}, r"json, images\[0\]: expected str 'file_name', got 3"),
        (
            {"annotations": [{"image_id": 8}]},
            r"annotations\[0\]: expected an image_id of the images",
        ),
        ({"annotations": [{"image_id": 7}]}, r"annotations\[0\]: expected str 'caption'"),
        ({"images": [{"id": 7, "file_name": "3.jpg"}]}, r"images\[0\]: expected a picture, but"),
        ({"images": [], "annotations": []}, r"json: expected at least one picture in all"),
    ],
)
def test_a_broken_entry_of_coco_is_named(changes, message, tmp_path):
    picture(tmp_path / "train2014/1.jpg")
    path = coco_file(tmp_path / "annotations/captions_train2014.json", **changes)
    if "images" in changes and "annotations" not in changes:
        path = coco_file(path, **changes, annotations=[])
    with pytest.raises(ValueError, match=message):
        pictures_files.coco(path)


def test_what_is_no_json_is_named(tmp_path):
    path = write(tmp_path / "captions.json", "{")
    with pytest.raises(ValueError, match=r"captions\.json: expected a JSON object, got"):
        pictures_files.coco(path)
    with pytest.raises(ValueError, match=r"captions\.json: expected an object with the lists"):
        pictures_files.karpathy(write(path, "[]"))


def karpathy_file(path, *splits, folder="val2014"):
    images = [
        {
            "filepath": folder,
            "filename": f"{number}.jpg",
            "split": split,
            "sentences": [{"raw": f"Caption {number}{end}"} for end in "ab"],
        }
        for number, split in enumerate(splits)
    ]
    return write(path, json.dumps({"images": images, "dataset": "coco"}))


def test_of_several_lists_of_karpathy_one_must_be_named(tmp_path):
    for name in ("coco", "flickr8k"):
        write(tmp_path / f"dataset_{name}.json", "{}")
    message = r"expected one dataset\*\.json, got \['dataset_coco\.json', .*; name the file"
    with pytest.raises(ValueError, match=message):
        load_pictures(str(tmp_path))
    flickr(tmp_path)  # of another kind, which is looked for first
    assert len(load_pictures(str(tmp_path)).train) == 2


def test_a_compressed_list_of_coco_has_the_pictures_of_the_plain_one(tmp_path):
    picture(tmp_path / "train2017/1.jpg")
    path = coco_file(tmp_path / "annotations/captions_train2017.json")
    plain = pictures_files.coco(path)
    packed = path.with_name("captions_train2017.json.gz")
    packed.write_bytes(gzip.compress(path.read_bytes()))
    paths = [
        [row.path for row in found["all"].rows] for found in (plain, pictures_files.coco(packed))
    ]
    assert paths[0] == paths[1] == [tmp_path / "train2017/1.jpg"]


@pytest.mark.parametrize("images", ["", "images"])
def test_karpathys_file_has_the_split_and_restval_is_for_training(images, tmp_path):
    splits = ["train", "restval", "test", "val", "train"]
    for number in range(len(splits)):
        picture(tmp_path / images / f"val2014/{number}.jpg")
    path = karpathy_file(tmp_path / "dataset_coco.json", *splits)
    parts = pictures_files.karpathy(path)
    numbers = {name: [int(p.path.stem) for p in part.rows] for name, part in parts.items()}
    assert numbers == {"train": [0, 1, 4], "test": [2], "valid": [3]}
    assert parts["test"].rows[0].captions == ("Caption 2a", "Caption 2b")
    assert parts["test"].rows[0].place == f"{path}, images[2]"
    karpathy_file(path, "train", "rest")
    with pytest.raises(ValueError, match=r"images\[1\]: expected train, .* got 'rest'"):
        pictures_files.karpathy(path)
    unnamed = {"split": "val", "filename": "x", "filepath": 5}
    for broken in ({"split": "val", "filename": "x"}, {"split": "val"}, unnamed, {}):
        write(path, json.dumps({"images": [broken]}))
        with pytest.raises(ValueError, match=r"json, images\[0\]: expected (str|list) "):
            pictures_files.karpathy(path)


def test_an_imagefolder_has_a_text_or_several_for_each_file(tmp_path):
    for name in ("a.png", "sub/b.gif"):
        picture(tmp_path / name)
    path = write(
        tmp_path / "metadata.jsonl",
        '{"file_name": "a.png", "text": "one", "kind": "1 object", "group": "g"}',
        "",
        '{"file_name": "sub/b.gif", "captions": ["two", " ", "three"]}',
        '{"file_name": "a.png", "text": "again"}',
    )
    (whole,) = pictures_files.imagefolder(tmp_path).values()
    assert rows(whole, tmp_path) == [("a.png", ["one", "again"]), ("sub/b.gif", ["two", "three"])]
    assert [(p.kind, p.group, p.place) for p in whole.rows] == [
        ("1 object", "g", f"{path}:1"),
        ("", "", f"{path}:3"),
    ]
    assert whole.references == [["one", "again"], ["two", "three"]]
    assert whole.skipped == {"empty captions": 1}
    path.unlink()
    write(tmp_path / "metadata.csv", "file_name,caption,kind", 'a.png,"one, two",x')
    (whole,) = pictures_files.imagefolder(tmp_path).values()
    assert [(p.captions, p.kind) for p in whole.rows] == [(("one, two",), "x")]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"file_name": "a.png"}', r'jsonl:1: expected "file_name" and one of text, caption, cap'),
        ('{"file_name": 3, "text": "x"}', r'jsonl:1: expected "file_name" and one of'),
        ('{"file_name": "a.png", "text": [3]}', r'jsonl:1: expected "file_name" and one of'),
        ('{"file_name": "b.png", "text": "x"}', r"jsonl:1: expected a picture, but there is no"),
        ('{"file_name": ".", "text": "x"}', r"jsonl:1: expected a picture, but there is no"),
        (
            '{"file_name": "a.png", "text": "x", "group": ["g"]}',
            r"jsonl:1: expected a text or a whole number for 'group', got \['g'\]",
        ),
        ("x", r"jsonl:1: expected a JSON object"),
        ('{"file_name": "a.png", "text": " "}', r"0 captions \(skipped: 1 empty captions, 1 pict"),
    ],
)
def test_a_broken_line_of_an_imagefolder_is_named(line, message, tmp_path):
    picture(tmp_path / "a.png")
    write(tmp_path / "metadata.jsonl", line)
    with pytest.raises(ValueError, match=message):
        pictures_files.imagefolder(tmp_path)


def test_bytes_that_are_no_utf8_are_skipped_and_counted(tmp_path):
    picture(tmp_path / "images/a.jpg")
    path = tmp_path / "x.token"
    path.write_bytes(b"a.jpg#0\tgr\xfc\xdfe\na.jpg#1\thello\n")
    (whole,) = pictures_files.flickr8k(path).values()
    assert whole.references == [["hello"]]
    assert whole.skipped == {"captions with invalid UTF-8": 1}


# --- front door ----------------------------------------------------------------------------------


def imagefolder(folder, count, groups=None):
    lines = []
    for number in range(count):
        picture(folder / f"{number}.png")
        group = str(number % groups) if groups else None
        for end in "ab":
            row = {"file_name": f"{number}.png", "text": f"{folder.name} {number}{end}"}
            lines.append(json.dumps(row | ({"group": group} if groups else {})))
    write(folder / "metadata.jsonl", *lines)
    return str(folder)


def test_whole_pictures_and_groups_are_held_out(tmp_path, capsys):
    splits = load_pictures(imagefolder(tmp_path / "x", 50), seed=3)
    paths = [{p.path for p in part.rows} for part in splits]
    assert [len(part) for part in splits] == [40, 5, 5]
    assert len(set().union(*paths)) == 50
    assert all(len(p.captions) == 2 for part in splits for p in part.rows)
    assert "train: 40 pictures, 80 captions" in capsys.readouterr().err
    assert load_pictures(str(tmp_path / "x"), seed=3) == splits
    assert {p.path for p in load_pictures(str(tmp_path / "x"), seed=4).test.rows} != paths[2]
    imagefolder(tmp_path / "elsewhere/z", 50)  # the same pictures on another machine
    names = [p.path.name for p in splits.test.rows]
    other = load_pictures(str(tmp_path / "elsewhere/z"), seed=3)
    assert [p.path.name for p in other.test.rows] == names
    grouped = load_pictures(imagefolder(tmp_path / "y", 60, groups=20))
    groups = [{p.group for p in part.rows} for part in grouped]
    assert sum(map(len, groups)) == len(set().union(*groups)) == 20


def test_given_parts_are_used_as_they_are(tmp_path):
    train, valid, test = (
        imagefolder(tmp_path / name, count) for name, count in (("a", 30), ("b", 7), ("c", 3))
    )
    splits = load_pictures(train=train, valid=valid, test=test)
    assert [len(part) for part in splits] == [30, 7, 3]
    assert load_pictures(train=train, valid=valid).test is None
    assert [len(part) for part in load_pictures(train, test=test)] == [27, 3, 3]
    assert [len(part) for part in load_pictures(train, valid=valid)] == [27, 7, 3]


def test_pictures_of_a_given_part_that_are_also_trained_on_are_counted(tmp_path, capsys):
    path, other = imagefolder(tmp_path / "a", 30), imagefolder(tmp_path / "b", 9)
    (tmp_path / "b/2.png").write_bytes((tmp_path / "a/7.png").read_bytes())
    load_pictures(train=path, valid=other)
    said = capsys.readouterr().err
    assert "train: 30 pictures, 60 captions\n" in said
    assert "valid: 9 pictures, 18 captions; 1 of the pictures are also in train\n" in said
    load_pictures(path, test=path)
    assert "30 pictures, 60 captions; 27 of the pictures are also in" in capsys.readouterr().err


def test_a_group_in_bytes_that_are_no_utf8_is_one_as_others_are(tmp_path):
    imagefolder(tmp_path, 30)
    path = tmp_path / "metadata.csv"
    lines = [b"%d.png,x,J\xfcrgen%d\n" % (n, n) for n in range(30)]
    path.write_bytes(b"file_name,text,group\n" + b"".join(lines))
    assert sum(map(len, load_pictures(str(path)))) == 30


def test_several_sources_have_their_own_parts(tmp_path, capsys):
    for part, count in (("train", 11), ("validation", 3), ("test", 2)):
        imagefolder(tmp_path / "official" / part, count)
    official, other = str(tmp_path / "official"), imagefolder(tmp_path / "other", 40)
    splits = load_pictures(f"{official}:2,{other}:1", seed=3)
    apart = [load_pictures(place, seed=3) for place in (official, other)]
    assert [len(part) for part in splits] == [11 + 32, 3 + 4, 2 + 4]
    for part, *own in zip(splits, *apart, strict=True):
        assert [row.path for row in part.rows] == [row.path for each in own for row in each.rows]
        counts = [len(each) for each in own]
        assert [row.source for row in part.rows] == [official] * counts[0] + [other] * counts[1]
    said = capsys.readouterr().err
    assert (
        f"{other}: 32 pictures, 64 captions in train, 4 pictures, 8 captions in valid, 4 " in said
    )
    assert {row.source for part in apart[1] for row in part.rows} == {""}
    valid = imagefolder(tmp_path / "valid", 5)
    given = load_pictures(train=f"{official}:2,{other}:1", valid=valid)
    assert [len(part) for part in given] == [11 + 40, 5, 2]
    with pytest.raises(ValueError, match=r"`data` must be a file or folder.*'nothing' is missing"):
        load_pictures(f"{official}:2,nothing:1")


def test_a_picture_held_out_of_one_source_is_in_no_training_of_another(tmp_path):
    for part, count in (("train", 11), ("valid", 3), ("test", 2)):
        imagefolder(tmp_path / "a" / part, count)
    for number in range(30):
        picture(tmp_path / f"{number}.png")
    names = ["a/valid/0.png", "a/valid/1.png", "a/test/0.png", "a/train/0.png"]
    names += [f"{number}.png" for number in range(30)]
    lines = [json.dumps({"file_name": name, "text": name}) for name in names]
    other = write(tmp_path / "other.jsonl", *lines)
    splits = load_pictures(f"{tmp_path / 'a'}:1,{other}:1")
    paths = [{row.path for row in part.rows} for part in splits]
    assert not paths[0] & (paths[1] | paths[2]) and not paths[1] & paths[2]
    assert {tmp_path / name for name in names[:2]} <= paths[1] | paths[2]
    assert tmp_path / names[2] in paths[2]
    held_out = sum(part.skipped["pictures that are held out"] for part in splits)
    assert sum(map(len, splits)) + held_out == 11 + 3 + 2 + 34 and held_out > 0


def test_neither_a_copy_of_a_held_out_picture_nor_one_of_its_group_is_trained_on(tmp_path):
    for part, count in (("train", 11), ("valid", 3), ("test", 2)):
        imagefolder(tmp_path / "a" / part, count)
    for number in range(40):
        picture(tmp_path / f"{number}.png")
    copies = {tmp_path / "0.png": "valid/2", tmp_path / "1.png": "test/1"}
    for copy, original in copies.items():
        copy.write_bytes((tmp_path / f"a/{original}.png").read_bytes())
    lines = [json.dumps({"file_name": f"{n}.png", "text": "a", "group": n // 2}) for n in range(40)]
    other = write(tmp_path / "other.jsonl", *lines)
    third = write(tmp_path / "third.jsonl", *lines[20:])
    train, valid, test = load_pictures(f"{tmp_path / 'a'}:1,{other}:1,{third}:1")
    assert not {*copies} & {row.path for row in train.rows}
    held_out = {row.group for part in (valid, test) for row in part.rows} - {""}
    assert held_out and not held_out & {row.group for row in train.rows}
    assert not {row.group for row in valid.rows} & ({row.group for row in test.rows} - {""})


def test_what_is_left_of_no_source_is_said(tmp_path, capsys):
    for part, count in (("train", 11), ("valid", 3)):
        imagefolder(tmp_path / "a" / part, count)
    other = imagefolder(tmp_path / "b", 30)
    assert load_pictures(f"{tmp_path / 'a'}:1,{other}:1").test
    assert f"test: no pictures of {tmp_path / 'a'}\n" in capsys.readouterr().err
    with pytest.raises(ValueError, match="`valid` must have at least one picture that is not held"):
        load_pictures(f"{tmp_path / 'a'}:1,{other}:1", valid=other, test=other)
    (tmp_path / "c/annotations").mkdir(parents=True)
    coco = write(tmp_path / "c/annotations/captions_minival.json", "{}").parent.parent
    with pytest.raises(ValueError, match=r"`valid` must have a known part, got none in .*c'"):
        load_pictures(other, valid=str(coco))


def test_official_parts_are_kept_and_no_test_is_taken_from_an_official_train(tmp_path):
    path = flickr(tmp_path / "f")
    splits = load_pictures(str(tmp_path / "f"))
    assert [part and len(part) for part in splits] == [2, 1, None]
    assert load_pictures(str(path)) == splits
    write(tmp_path / "f/Flickr_8k.testImages.txt", "d.jpg")
    assert [len(part) for part in load_pictures(train=str(path))] == [2, 1, 1]
    other = imagefolder(tmp_path / "o", 5)
    assert [len(part) for part in load_pictures(str(path), test=other)] == [2, 1, 5]
    # Of a source with parts the one that is asked for is taken, or all if it has none such.
    assert [len(part) for part in load_pictures(other, valid=str(path))] == [4, 1, 1]
    (tmp_path / "f/Flickr_8k.testImages.txt").unlink()
    assert [len(part) for part in load_pictures(other, test=str(path))] == [4, 1, 3]


def test_the_front_door_knows_every_shape(tmp_path):
    flickr(tmp_path / "f/Flickr8k_text", "../Flicker8k_Dataset")
    picture(tmp_path / "k/Images/a.jpg")
    write(tmp_path / "k/captions.txt", "image,caption", "a.jpg,x")
    for name in ("train", "val"):
        picture(tmp_path / f"c/{name}2017/1.jpg")
        picture(tmp_path / f"c/{name}2017/2.jpg")
        coco_file(tmp_path / f"c/annotations/captions_{name}2017.json")
    for number in range(3):
        picture(tmp_path / f"j/images/val2014/{number}.jpg")
    karpathy_file(tmp_path / "j/dataset_coco.json", "train", "val", "test")
    imagefolder(tmp_path / "h", 5)
    imagefolder(tmp_path / "p/train", 3)
    imagefolder(tmp_path / "p/validation", 2)
    expected = {
        "f": {"train": 2, "valid": 1},
        "f/Flickr8k_text/Flickr8k.token.txt": {"train": 2, "valid": 1},
        "k": {"all": 1},
        "k/captions.txt": {"all": 1},
        "c": {"train": 2, "valid": 2},
        "c/annotations/captions_val2017.json": {"all": 2},
        "j": {"train": 1, "valid": 1, "test": 1},
        "j/dataset_coco.json": {"train": 1, "valid": 1, "test": 1},
        "p": {"train": 3, "valid": 2},
    }
    (tmp_path / "h/metadata.jsonl").rename(tmp_path / "h/train.jsonl")
    write(tmp_path / "h/metadata.csv", "file_name,text", "0.png,x", "1.png,y")
    expected |= {"h/train.jsonl": {"all": 5}, "h/metadata.csv": {"all": 2}, "h": {"all": 2}}
    for name, counts in expected.items():
        found = pictures._read("train", str(tmp_path / name))
        assert {part: len(each) for part, each in found.items()} == counts, name
    coco_file(tmp_path / "c/annotations/captions_val2014.json")
    with pytest.raises(ValueError, match=r"expected one captions_val\*\.json, got \['captions_val"):
        pictures._read("train", str(tmp_path / "c"))


def test_lists_beside_each_other_are_the_parts_of_a_run(tmp_path):
    lines = Path(imagefolder(tmp_path, 11), "metadata.jsonl").read_text().splitlines()
    train = write(tmp_path / "train.jsonl", *lines[:16])
    dev, test = write(tmp_path / "dev.jsonl", *lines[16:20]), write(tmp_path / "t.jsonl", lines[20])
    splits = load_pictures(train=str(train), valid=str(dev), test=str(test))
    assert [len(part) for part in splits] == [8, 2, 1]
    assert splits.valid.rows[0].place == f"{dev}:1"


def test_what_cannot_be_read_or_split_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"`train` must be a file or folder, but 'nothing' is mis"):
        load_pictures(train="nothing")
    with pytest.raises(ValueError, match=r"or one of \['openmoji', .*, but 'nothing' is missing"):
        load_pictures("nothing")
    write(tmp_path / "table.xlsx", "")
    with pytest.raises(ValueError, match=r"`train` must be a token file, .* got .*table\.xlsx'; s"):
        load_pictures(train=str(tmp_path / "table.xlsx"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"`data` must be .* or one of \['openmoji', 'openmoji-na"):
        load_pictures(str(tmp_path / "empty"))
    with pytest.raises(ValueError, match="`data` and `train` must not both be given"):
        load_pictures("a", train="b")
    with pytest.raises(
        ValueError, match="must leave at least one picture in `train`, got none of 2"
    ):
        load_pictures(imagefolder(tmp_path / "x", 2))


def test_the_named_sources_are_drawn_with_their_kinds(tmp_path, monkeypatch):
    calls = []

    def drawn(seed):
        calls.append(seed)
        folder = tmp_path / "drawn"
        for part, count in (("train", 5), ("valid", 2), ("test", 3)):
            imagefolder(folder / part, count)
        return folder

    for name in pictures.NAMED_SOURCES:
        monkeypatch.setitem(pictures.NAMED_SOURCES, name, drawn)
        assert [len(part) for part in load_pictures(name, seed=7)] == [5, 2, 3]
    assert calls == [7, 7]
    monkeypatch.setattr(scenes, "noto_objects", lambda seed: imagefolder(tmp_path / "n", 2 + seed))
    assert len(pictures.noto_pictures(seed=3)) == 5


def test_the_default_data_are_scenes_with_kinds(tmp_path, monkeypatch):
    drawing = '<circle cx="36" cy="36" r="30"/>'
    monkeypatch.setattr(drawings, "openmoji_wheel", lambda: None)
    monkeypatch.setattr(scenes, "SCENES", {"train": 40, "valid": 20, "test": 20})
    style = dict.fromkeys(scenes.OBJECTS, drawing)
    monkeypatch.setattr(drawings, "openmoji_drawings", lambda wheel: style)
    splits = load_pictures()
    assert [len(part) for part in splits] == [40, 20, 20]
    kinds = Counter(p.kind for p in splits.test.rows)
    assert kinds == {kind: round(20 * share) for kind, share in scenes.KINDS.items()}
