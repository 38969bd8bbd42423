"""Scenes of emoji: words for all objects, captions that are true, pairs held out, drawings."""

import itertools
import json
import random
import shutil
from collections import Counter

import numpy as np
import PIL.Image
import pytest
from emoji_files import colour, noto_deb, wheel

from recipes.data import drawings, scenes

WORDS = """
a dog, dogs; a cat, cats; a mouse, mice; a rabbit, rabbits; a cow, cows; a pig, pigs;
an elephant, elephants; a turtle, turtles; a snake, snakes; a fish, fish; an octopus, octopuses;
a crab, crabs; a butterfly, butterflies; a snail, snails; an owl, owls; a penguin, penguins;
a duck, ducks; a shark, sharks; a fox, foxes; a wolf, wolves; a panda, pandas; a frog, frogs;
a lion, lions; a koala, koalas; a hedgehog, hedgehogs; an ant, ants; a deer, deer;
a flamingo, flamingos; a unicorn, unicorns; a red apple, red apples; a green apple, green apples;
a banana, bananas; a strawberry, strawberries; a lemon, lemons; a pear, pears;
a pineapple, pineapples; a mango, mangoes; a watermelon, watermelons; a carrot, carrots;
an eggplant, eggplants; an avocado, avocados; a mushroom, mushrooms; a tomato, tomatoes;
a hamburger, hamburgers; a croissant, croissants; a doughnut, doughnuts; an egg, eggs; a bus, buses;
a bicycle, bicycles; an airplane, airplanes; a rocket, rockets; a tractor, tractors;
a helicopter, helicopters; a house, houses; a cactus, cacti; a tulip, tulips;
an umbrella, umbrellas; a key, keys; a bell, bells; a balloon, balloons; a guitar, guitars;
a crown, crowns;
an anchor, anchors; a star, stars; a green book, green books; a blue book, blue books;
an orange book, orange books; a red heart, red hearts; an orange heart, orange hearts;
a green heart, green hearts; a blue heart, blue hearts; a purple heart, purple hearts;
a red circle, red circles; a yellow circle, yellow circles; a green circle, green circles;
a blue circle, blue circles; an orange square, orange squares; a green square, green squares;
a blue square, blue squares; a purple square, purple squares
"""


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KZOO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


# --- words ---------------------------------------------------------------------------------------


def test_every_object_has_the_right_article_and_plural():
    expected = [tuple(pair.strip().split(", ")) for pair in WORDS.split(";")]
    nouns = [drawings.names()[emoji] for emoji in scenes.OBJECTS]
    found = [(scenes.counted(1, noun), scenes.plural(noun)) for noun in nouns]
    assert found == expected
    assert len({*nouns}) == len(nouns) == 80


def test_counts_and_plurals_follow_the_rules_of_english():
    assert scenes.counted(2, "mouse") == "two mice"
    assert scenes.counted(4, "orange book") == "four orange books"
    expected = {"peach": "peaches", "cherry": "cherries", "monkey": "monkeys", "box": "boxes"}
    assert {noun: scenes.plural(noun) for noun in expected} == expected


@pytest.mark.parametrize(
    ("counts", "nouns", "axis", "caption"),
    [
        ((1,), ["owl"], 0, "an owl"),
        ((3,), ["red apple"], 1, "three red apples"),
        ((1, 1), ["frog", "mango"], 0, "a frog to the left of a mango"),
        ((2, 1), ["frog", "egg"], 1, "two frogs above an egg"),
        ((1, 1, 1), ["frog", "key", "ant"], 1, "a frog, a key and an ant from top to bottom"),
        ((1,) * 4, ["a", "b", "c", "d"], 0, "an a, a b, a c and a d from left to right"),
    ],
)
def test_the_grammar_names_first_what_is_left_or_above(counts, nouns, axis, caption):
    assert scenes.caption(counts, nouns, axis) == caption


# --- composition ---------------------------------------------------------------------------------


def truths(placements):
    """All captions of the grammar that hold, read off the placements by brute force."""
    places = {}
    for p in placements:
        places.setdefault(p.emoji, []).append((p.x, p.y))
    found = []
    for order in itertools.permutations(places):
        for axis in (0, 1):
            groups = [np.array(places[emoji]) for emoji in order]
            middles = np.array([group.mean(0) for group in groups])
            extent = np.ptp(middles, axis=0)
            pairs = itertools.pairwise(groups)
            if len(order) == 1 or (
                all(a[axis] + scenes.GAP <= b[axis] for x, y in pairs for a in x for b in y)
                and extent[axis] >= 2 * extent[1 - axis]
            ):
                counts = [len(places[emoji]) for emoji in order]
                found.append(scenes.caption(counts, [drawings.names()[e] for e in order], axis))
    return {*found}


@pytest.mark.parametrize("part", ["train", "valid", "test"])
@pytest.mark.parametrize("kind", scenes.KINDS)
def test_a_scene_has_exactly_one_true_caption(kind, part):
    rng = random.Random(7)
    captions = []
    for _ in range(60):
        scene = scenes.compose(kind, part, 3, rng)
        assert truths(scene.placements) == {scene.caption}
        assert scene.kind == kind
        captions.append(scene.caption)
    assert len({*captions}) > 30
    for word in ("left", "above") * (kind == "2 objects"):
        assert 10 < sum(word in text for text in captions) < 50


@pytest.mark.parametrize("kind", scenes.KINDS)
def test_emoji_stand_within_the_picture_and_do_not_overlap(kind):
    rng = random.Random(11)
    for _ in range(60):
        placements = scenes.compose(kind, "train", 0, rng).placements
        low, high = scenes.SIZES[len(placements)]
        for p in placements:
            assert low <= p.side <= high
            assert abs(p.degrees) <= scenes.MOST_DEGREES
            for value in (p.x, p.y):
                assert p.side / 2 - 1e-9 <= value <= 1 - p.side / 2 + 1e-9
        for p, q in itertools.combinations(placements, 2):
            assert np.hypot(p.x - q.x, p.y - q.y) >= (p.side + q.side) / 2 - 1e-9


def test_what_stands_between_left_and_above_is_neither():
    corner, diagonal = (0.2, 0.2), (0.6, 0.55)
    for axis in (0, 1):
        assert not scenes.is_clear([corner, diagonal], (1, 1), axis)
    assert scenes.is_clear([corner, (0.6, 0.39)], (1, 1), 0)
    assert not scenes.is_clear([corner, (0.3, 0.2)], (1, 1), 0)  # too near
    # One of two frogs is not left of the mango.
    assert not scenes.is_clear([(0.1, 0.5), (0.6, 0.4), (0.7, 0.5)], (2, 1), 0)
    assert scenes.is_clear([(0.1, 0.5), (0.5, 0.4), (0.7, 0.5)], (2, 1), 0)


def test_a_tenth_of_the_pairs_is_for_valid_and_a_tenth_for_test():
    pairs = list(itertools.combinations(scenes.OBJECTS, 2))
    parts = [scenes.part_of(*pair, 0) for pair in pairs]
    counts = Counter(parts)
    assert len(pairs) == 3160
    assert counts["valid"] == pytest.approx(316, abs=60)
    assert counts["test"] == pytest.approx(316, abs=60)
    assert [scenes.part_of(b, a, 0) for a, b in pairs] == parts
    assert [scenes.part_of(*pair, 1) for pair in pairs] != parts


@pytest.mark.parametrize("part", ["train", "valid", "test"])
def test_a_part_holds_no_pair_of_another(part):
    for scene in scenes.scenes_of(part, 200, seed=5):
        objects = sorted({p.emoji for p in scene.placements})
        homes = {scenes.part_of(*pair, 5) for pair in itertools.combinations(objects, 2)}
        assert homes <= {"train", part}
        assert len(objects) == 1 or part in homes


def test_kinds_come_in_their_shares_and_in_random_order():
    found = [scene.kind for scene in scenes.scenes_of("train", 100, 0)]
    assert Counter(found) == {kind: round(100 * share) for kind, share in scenes.KINDS.items()}
    assert len(list(itertools.groupby(found))) > 50
    assert sum(scenes.KINDS.values()) == pytest.approx(1)


# --- drawings ------------------------------------------------------------------------------------


def pixels(path):
    return np.asarray(PIL.Image.open(path).convert("RGB")).astype(int)


@pytest.fixture
def discs(tmp_path, monkeypatch):
    """All objects are discs, and there are few scenes."""
    path = wheel(tmp_path, scenes.OBJECTS)
    monkeypatch.setattr(drawings, "openmoji_wheel", lambda: path)
    monkeypatch.setattr(scenes, "SCENES", {"train": 40, "valid": 20, "test": 20})


def rows(folder):
    lines = (folder / "metadata.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def test_pictures_show_what_the_scene_says(discs):
    folder = scenes.openmoji_scenes(seed=5)
    assert sorted(path.name for path in folder.iterdir()) == ["test", "train", "valid"]
    colours = {emoji: colour(number) for number, emoji in enumerate(scenes.OBJECTS)}
    for part, count in scenes.SCENES.items():
        expected = list(scenes.scenes_of(part, count, 5))
        found = rows(folder / part)
        assert [(row["text"], row["kind"]) for row in found] == [s[:2] for s in expected]
        for row, scene in zip(found, expected, strict=True):
            picture = pixels(folder / part / row["file_name"])
            assert picture.shape == (drawings.PIXELS, drawings.PIXELS, 3)
            for p in scene.placements:
                x, y = int(p.x * drawings.PIXELS), int(p.y * drawings.PIXELS)
                assert tuple(picture[y, x]) == colours[p.emoji]
            ink = (picture != 255).any(-1).mean()
            area = sum(np.pi * (p.side * 30 / 72) ** 2 for p in scene.placements)
            assert ink == pytest.approx(area, rel=0.25)


def test_the_same_seed_draws_once_and_another_draws_anew(discs, monkeypatch, capsys):
    folder = scenes.openmoji_scenes(seed=5)
    assert "Drawing pictures" in capsys.readouterr().err
    other = scenes.openmoji_scenes(seed=6)
    assert rows(other / "train") != rows(folder / "train")
    monkeypatch.setattr(drawings, "render", None)
    assert scenes.openmoji_scenes(seed=5) == folder
    monkeypatch.setattr(drawings, "PIXELS", 48)
    with pytest.raises(TypeError):  # it has to draw
        scenes.openmoji_scenes(seed=5)


def test_a_stopped_drawing_leaves_nothing_behind(discs, monkeypatch, cache):
    numbers = iter(range(7))
    render = drawings.render

    def stopped(markup):
        if next(numbers) == 6:
            raise KeyboardInterrupt
        return render(markup)

    monkeypatch.setattr(drawings, "render", stopped)
    with pytest.raises(KeyboardInterrupt):
        scenes.openmoji_scenes()
    assert list((cache / "scenes").iterdir()) == []


@pytest.fixture
def noto(tmp_path, monkeypatch):
    monkeypatch.setattr(drawings, "noto_package", lambda: noto_deb(tmp_path))


def test_the_objects_in_the_style_of_noto_are_a_part_of_their_own(noto):
    folder = scenes.noto_objects(seed=2)
    found = rows(folder)
    assert Counter(row["text"] for row in found) == {"a frog": 3, "a red heart": 3}
    assert {row["kind"] for row in found} == {"Noto style"}
    assert len({(folder / row["file_name"]).read_bytes() for row in found}) == 6  # places differ


def test_single_emoji_have_their_names_and_are_tested_in_both_styles(noto, tmp_path, monkeypatch):
    path = wheel(tmp_path, ["🐸", "👋🏿"])
    monkeypatch.setattr(drawings, "openmoji_wheel", lambda: path)
    folder = scenes.openmoji_names(seed=1)
    names = ["frog", "waving hand dark skin tone"]
    expected = {"train": Counter(names * 4), "valid": Counter(names)}
    expected["test"] = Counter([*names, "frog", "red heart", "France"])
    for part, counts in expected.items():
        found = Counter(row["text"] for row in rows(folder / part))
        assert found == counts
    kinds = Counter(row["kind"] for row in rows(folder / "test"))
    assert kinds == {"OpenMoji style": 2, "Noto style": 3}


def test_without_apt_single_emoji_are_tested_in_one_style_and_it_is_said(
    tmp_path, monkeypatch, capsys
):
    path = wheel(tmp_path, "🐸")
    monkeypatch.setattr(drawings, "openmoji_wheel", lambda: path)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    folder = scenes.openmoji_names()
    assert [row["kind"] for row in rows(folder / "test")] == ["OpenMoji style"]
    assert "Without the drawings of Noto: This data needs `apt-get`" in capsys.readouterr().err
    with pytest.raises(RuntimeError, match="needs `apt-get`"):
        scenes.noto_objects()
