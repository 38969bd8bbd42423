"""Scenes of one to four emoji with exact captions: pictures of which every fact is known.

    openmoji_scenes(seed) -> a folder with train/, valid/ and test/, each a metadata.jsonl with PNGs
    openmoji_names(seed)  -> the same, of single emoji with their names
    noto_objects(seed)    -> a folder: the objects of the scenes, one by one, drawn by Google's Noto

The drawings are those of OpenMoji (CC-BY-SA-4.0), the names those of the package emoji. Captions
follow a grammar by which a scene has exactly one:

    caption   count noun                              "a frog", "three red apples"
            | group relation group                    "two frogs to the left of a mango"
            | list direction                          "a frog, a key and a bus from top to bottom"
    group     count noun
    list      three or four different objects, one of each
    relation  to the left of | above
    direction from left to right | from top to bottom

Equal objects are always counted, never listed; what stands left or above is named first, so
nothing is ever "below". Along its axis a relation keeps `GAP` between all centres of the first
group and all of the second, and the middles of the groups differ at least twice as much along it
as across it; so does a list between neighbours, and is at least twice as long as it is wide.

Pairs of objects are held out: every pair of different objects belongs to train, valid or test, by
a hash. A scene holds pairs of train and of its own part only, and in valid and test at least one of
the latter, so a pair in a test scene was never seen together. Scenes of one kind of object are new
placements.
"""

import contextlib
import hashlib
import itertools
import json
import math
import random
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from recipes.data import drawings, files
from recipes.data.drawings import Placement

OBJECTS = (
    "🐕🐈🐁🐇🐄🐖🐘🐢🐍🐟🐙🦀🦋🐌🦉🐧🦆🦈🦊🐺🐼🐸🦁🐨🦔🐜🦌🦩🦄"  # animals
    "🍎🍏🍌🍓🍋🍐🍍🥭🍉🥕🍆🥑🍄🍅🍔🥐🍩🥚"  # food
    "🚌🚲✈🚀🚜🚁🏠🌵🌷☂🔑🔔🎈🎸👑⚓⭐📗📘📙"
    "❤🧡💚💙💜🔴🟡🟢🔵🟧🟩🟦🟪"
)
SCENES = {"train": 16_000, "valid": 1_000, "test": 2_000}
EQUAL = "equal objects"
KINDS = {"1 object": 0.1, EQUAL: 0.15, "2 objects": 0.35, "3 objects": 0.2, "4 objects": 0.2}
GROUPS = {  # how many of each object; a scene of a kind is one of these, equally likely
    "1 object": [(1,)],
    EQUAL: [(2,), (3,), (4,)],
    "2 objects": [(1, 1)],
    "3 objects": [(1, 1, 1), (2, 1), (1, 2)],
    "4 objects": [(1, 1, 1, 1), (2, 2), (3, 1), (1, 3)],
}
HELD_OUT_COMBINATIONS = 0.1  # share of the pairs of objects, for valid and again for test
# Of a picture's side, by the number of emoji: the side of the square in which one is drawn.
SIZES = {1: (0.35, 0.75), 2: (0.3, 0.5), 3: (0.27, 0.4), 4: (0.25, 0.34)}
GAP = 0.14  # of a picture's side
REACH = 0.5  # of that square's side: how far from its centre a drawing gets, but for corners
MOST_DEGREES = 30  # of a rotation, either way
NAME_DRAWINGS = {"train": 4, "valid": 1, "test": 1}  # of each emoji in openmoji_names
NOTO_DRAWINGS = 3  # of each object in noto_objects
OPENMOJI_KIND, NOTO_KIND = "OpenMoji style", "Noto style"
FORMAT = 1  # of what is cached; to be raised with every change to what is drawn and written
NUMBERS = {2: "two", 3: "three", 4: "four"}
PLURALS = {"mouse": "mice", "wolf": "wolves", "fish": "fish", "deer": "deer", "cactus": "cacti"}
PLURALS |= {"mango": "mangoes", "tomato": "tomatoes"}
AXES = (("to the left of", "from left to right"), ("above", "from top to bottom"))


class Scene(NamedTuple):
    """What a picture is to show."""

    caption: str
    kind: str
    placements: tuple[Placement, ...]


def plural(noun: str) -> str:
    """The plural of the last word: "red apple" -> "red apples"; right for all of `OBJECTS`."""
    *words, last = noun.split(" ")
    if last in PLURALS:
        last = PLURALS[last]
    elif re.search("(s|x|z|ch|sh)$", last):
        last += "es"
    else:
        last = re.sub("[^aeiou]y$", lambda end: f"{end[0][0]}ie", last) + "s"
    return " ".join([*words, last])


def article(noun: str) -> str:
    """ "a" or "an", by the sound: "an owl", but "a unicorn"; right for all of `OBJECTS`."""
    return "an" if re.match("(?!uni)[aeiou]", noun) else "a"


def counted(count: int, noun: str) -> str:
    """1, "owl" -> "an owl"; 3, "owl" -> "three owls"."""
    return f"{article(noun)} {noun}" if count == 1 else f"{NUMBERS[count]} {plural(noun)}"


def caption(counts: Sequence[int], nouns: Sequence[str], axis: int) -> str:
    """The caption of groups in the order of `axis`: 0 is left to right, 1 top to bottom."""
    relation, direction = AXES[axis]
    phrases = [counted(*pair) for pair in zip(counts, nouns, strict=True)]
    if len(phrases) < 3:
        return f" {relation} ".join(phrases)
    return f"{', '.join(phrases[:-1])} and {phrases[-1]} {direction}"


def part_of(one: str, other: str, seed: int) -> str:
    """To which part a pair of objects belongs, in either order: "train", "valid" or "test"."""
    pair = " ".join(sorted((one, other)))
    digest = hashlib.sha256(f"{seed} {pair}".encode()).digest()
    share = int.from_bytes(digest[:8], "big") / 2**64
    return ("test", "valid", "train")[min(int(share / HELD_OUT_COMBINATIONS), 2)]


def compose(kind: str, part: str, seed: int, rng: random.Random) -> Scene:
    """A random scene of a kind for a part."""
    counts = _pick(rng, GROUPS[kind])
    while True:
        objects = [_pick(rng, OBJECTS) for _ in counts]
        if len({*objects}) == len(objects) and _allowed(objects, part, seed):
            break
    axis = _pick(rng, (0, 1))
    emoji = [each for count, each in zip(counts, objects, strict=True) for _ in range(count)]
    places = arrange(counts, axis, rng)
    text = caption(counts, [drawings.names()[each] for each in objects], axis)
    return Scene(text, kind, _placed(emoji, places, rng))


def _placed(emoji: Sequence[str], places: Sequence[tuple], rng: random.Random) -> tuple:
    """Placements at the places, rotated at random."""
    return tuple(
        Placement(each, *place, rng.uniform(-MOST_DEGREES, MOST_DEGREES))
        for each, place in zip(emoji, places, strict=True)
    )


def arrange(
    counts: Sequence[int], axis: int, rng: random.Random
) -> list[tuple[float, float, float]]:
    """Random (x, y, side) of each emoji, group by group, that do not overlap and make the relation
    or list along `axis` true by the rules of this module."""
    number = sum(counts)
    while True:
        sides = [rng.uniform(*SIZES[number]) for _ in range(number)]
        margins = [side * REACH for side in sides]
        most = max(margins)
        # Sorted, with `GAP` between the groups; what is impossible all the same is drawn again.
        spare = 1 - 2 * most - GAP * (len(counts) - 1)
        free = spare * max(rng.random(), rng.random())
        along = sorted(free * rng.random() for _ in sides)
        shift = rng.uniform(most, most + spare - free)
        ranks = [rank for rank, count in enumerate(counts) for _ in range(count)]
        along = [a + shift + GAP * rank for a, rank in zip(along, ranks, strict=True)]
        wide = 1 - 2 * most
        if len(counts) > 2:
            wide = min(wide, (along[-1] - along[0]) / 2)
        low = rng.uniform(most, 1 - most - wide)
        across = [low + wide * rng.random() for _ in sides]
        centres = [(a, b)[:: 1 - 2 * axis] for a, b in zip(along, across, strict=True)]
        if _apart(centres, margins) and is_clear(centres, counts, axis):
            return [(*centre, side) for centre, side in zip(centres, sides, strict=True)]


def is_clear(centres: Sequence[tuple[float, float]], counts: Sequence[int], axis: int) -> bool:
    """Whether groups of so many `centres` each keep the rules of this module along `axis`."""
    if len(counts) == 1:
        return True
    ends = [0, *itertools.accumulate(counts)]
    groups = [centres[start:end] for start, end in itertools.pairwise(ends)]
    gaps = (
        min(point[axis] for point in after) - max(point[axis] for point in before)
        for before, after in itertools.pairwise(groups)
    )
    middles = [
        [sum(values) / len(group) for values in zip(*group, strict=True)] for group in groups
    ]
    long, wide = (
        max(middle[way] for middle in middles) - min(middle[way] for middle in middles)
        for way in (axis, 1 - axis)
    )
    return min(gaps) >= GAP and long >= 2 * wide


def _apart(centres: Sequence[tuple[float, float]], margins: Sequence[float]) -> bool:
    circles = zip(centres, margins, strict=True)
    return all(
        math.dist(one, other) >= radius + other_radius
        for (one, radius), (other, other_radius) in itertools.combinations(circles, 2)
    )


def _allowed(objects: Sequence[str], part: str, seed: int) -> bool:
    parts = {part_of(*pair, seed) for pair in itertools.combinations(objects, 2)}
    return parts <= {"train", part} and (part in parts or len(objects) == 1)


def _pick(rng: random.Random, items: Sequence):
    return items[int(rng.random() * len(items))]  # the same in every version of Python


def scenes_of(part: str, count: int, seed: int) -> Iterator[Scene]:
    """About `count` scenes in random order, of kinds in the shares of `KINDS`."""
    kinds = [kind for kind, share in KINDS.items() for _ in range(round(share * count))]
    rng = random.Random(f"{seed} {part}")
    for kind in sorted(kinds, key=lambda _: rng.random()):
        yield compose(kind, part, seed, rng)


def openmoji_scenes(seed: int = 0) -> Path:
    """The folder of scenes, train/, valid/ and test/ as large as `SCENES`, drawn the first time:
    52 MB and a minute of one core."""

    def pictures():
        style = drawings.openmoji_drawings(drawings.openmoji_wheel())
        for part, count in SCENES.items():
            for scene in scenes_of(part, count, seed):
                yield part, scene, style

    rules = [HELD_OUT_COMBINATIONS, SIZES, GAP, REACH, MOST_DEGREES, KINDS, GROUPS]
    objects = [(emoji, drawings.names()[emoji]) for emoji in OBJECTS]
    return _drawn("openmoji", [seed, SCENES, rules, objects], pictures)


def openmoji_names(seed: int = 0) -> Path:
    """The folder of single emoji with their names, drawn the first time: in train/, valid/ and
    test/ all of OpenMoji at new places, in test/ also those that Noto has.

    Without `apt-get`, with which Noto comes, test/ lacks them; that is said on stderr.
    """
    try:
        package = drawings.noto_package()
    except RuntimeError as error:
        files.say(f"Without the drawings of Noto: {error}")
        package = None
    names = drawings.names()

    def pictures():
        style = drawings.openmoji_drawings(drawings.openmoji_wheel())
        for part, count in NAME_DRAWINGS.items():
            for scene in _singles(style, count, names, OPENMOJI_KIND, f"{seed} {part}"):
                yield part, scene, style
        if package is not None:
            style = drawings.noto_drawings(package)
            for scene in _singles(style, 1, names, NOTO_KIND, f"{seed} noto"):
                yield "test", scene, style

    settings = [seed, NAME_DRAWINGS, SIZES, MOST_DEGREES, package and package.name, names]
    return _drawn("openmoji-names", settings, pictures)


def noto_objects(seed: int = 0) -> Path:
    """The folder of the scenes' objects, each `NOTO_DRAWINGS` times alone in the style of Noto.

    Raises:
        RuntimeError: there is no `apt-get`, with which the font comes.
    """
    package = drawings.noto_package()
    captions = {emoji: counted(1, drawings.names()[emoji]) for emoji in OBJECTS}

    def pictures():
        found = drawings.noto_drawings(package)
        style = {emoji: found[emoji] for emoji in OBJECTS if emoji in found}
        for scene in _singles(style, NOTO_DRAWINGS, captions, NOTO_KIND, f"{seed} noto"):
            yield "", scene, style

    settings = [seed, NOTO_DRAWINGS, SIZES, MOST_DEGREES, package.name, captions]
    return _drawn("noto", settings, pictures)


def _singles(
    emojis: Iterable[str], count: int, captions: dict[str, str], kind: str, seed: str
) -> Iterator[Scene]:
    """`count` scenes of each emoji alone."""
    for emoji, number in itertools.product(emojis, range(count)):
        rng = random.Random(f"{seed} {emoji} {number}")
        yield Scene(captions[emoji], kind, _placed([emoji], arrange((1,), 0, rng), rng))


def _drawn(name: str, settings: list, pictures: Callable[[], Iterable[tuple]]) -> Path:
    """The folder in the cache for these settings, made of (part, scene, style) if missing."""
    key = json.dumps([FORMAT, drawings.OPENMOJI_VERSION, drawings.PIXELS, settings])
    folder = files.cache_dir() / "scenes"
    folder /= f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"

    def write(part):
        files.say(f"Drawing pictures to {folder}")
        _write(part, pictures())

    return files.make_folder(folder, write)


def _write(folder: Path, pictures: Iterable[tuple[str, Scene, dict[str, str]]]) -> None:
    tables = {}
    with contextlib.ExitStack() as stack:
        for number, (part, scene, style) in enumerate(files.progress(pictures, "Picture")):
            if part not in tables:
                (folder / part).mkdir(exist_ok=True)
                path = folder / part / "metadata.jsonl"
                tables[part] = stack.enter_context(open(path, "w", encoding="utf-8"))
            row = {"file_name": f"{number:06}.png", "text": scene.caption, "kind": scene.kind}
            png = drawings.render(drawings.svg(scene.placements, style))
            (folder / part / row["file_name"]).write_bytes(png)
            tables[part].write(json.dumps(row, ensure_ascii=False) + "\n")
