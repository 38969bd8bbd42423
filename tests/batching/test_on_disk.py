import numpy as np
import pytest

import kzoo
from kzoo.batching import on_disk


def written(folder, content):
    path = folder / "pairs.tsv"
    path.write_bytes(content)
    return path


def test_lines_are_pairs_where_they_have_two_sides(tmp_path):
    lines = b"a b\tB A\n\nno pair\n\tnothing\nnothing\t\nnothing\t\r\n"
    lines += b"x\tY\tnote\twith\ttabs\r\nc\t\xc3\xa4"
    pairs = on_disk.PairsOnDisk(written(tmp_path, lines))
    assert (len(pairs), pairs.left_out) == (3, 5)
    assert pairs.texts([2, 0, 1]) == ([b"c", b"a b", b"x"], ["ä".encode(), b"B A", b"Y"])
    assert [list(side) for side in pairs.byte_lengths()] == [[3, 1, 1], [3, 1, 2]]
    assert pairs.names([2, 0, 1]) == [f"{pairs.path}:{line}" for line in (8, 1, 7)]


@pytest.mark.parametrize("content", [b"", b"\n", b"no pair", b"a\nb\t\n"])
def test_a_file_without_pairs_is_refused(tmp_path, content):
    with pytest.raises(ValueError, match="`path` must be a file with pairs, got path="):
        on_disk.PairsOnDisk(written(tmp_path, content))


def test_blocks_of_a_file_are_one_file(tmp_path, monkeypatch):
    lines = "".join(f"{i} x\tX {i * i}\r\n" for i in range(50))
    path = written(tmp_path, lines.encode())
    monkeypatch.setattr(on_disk, "_BLOCK", 7)
    pairs = on_disk.PairsOnDisk(path)
    sources, targets = pairs.texts(range(50))
    assert sources == [f"{i} x".encode() for i in range(50)]
    assert targets == [f"X {i * i}".encode() for i in range(50)]
    assert pairs.names(np.array([0, 49])) == [f"{pairs.path}:1", f"{pairs.path}:50"]


def batches_of(folder, **options):
    rng = np.random.default_rng(5)
    texts = [
        " ".join("abcdefg"[i] for i in rng.integers(0, 7, n)) for n in rng.integers(1, 30, 200)
    ]
    content = "".join(f"{text}\t{text.upper()}\n" for text in texts)
    pairs = on_disk.PairsOnDisk(written(folder, content.encode()))
    tokenizers = [
        kzoo.WordTokenizer.learn(side, vocabulary_size=20)
        for side in (texts, [text.upper() for text in texts])
    ]
    options = {"max_length": 40, "seed": 3} | options
    return texts, tokenizers, on_disk.disk_batches(pairs, *tokenizers, 150, **options)


def test_a_pass_has_every_pair_once_and_little_padding(tmp_path):
    texts, (source, target), batches = batches_of(tmp_path)
    read, real, padded = [], 0, 0
    for inputs, labels in batches:
        lines = source.detokenize(inputs["source"]).numpy().tolist()
        assert target.detokenize(labels).numpy().tolist() == [line.upper() for line in lines]
        read += lines
        real, padded = real + (labels.numpy() != 0).sum(), padded + labels.numpy().size
        assert labels.numpy().size < 1.2 * 150
    assert sorted(read) == sorted(text.encode() for text in texts)
    assert 1 - real / padded < 0.1


def test_pairs_of_a_batch_may_be_named_by_file_and_line(tmp_path):
    texts, (source, _), batches = batches_of(tmp_path, named=True)
    inputs, labels = next(iter(batches))
    assert len(inputs["name"]) == len(labels) > 2
    lines = [int(name.decode().rpartition(":")[2]) for name in inputs["name"].numpy()]
    said = [text.decode() for text in source.detokenize(inputs["source"]).numpy()]
    assert said == [texts[line - 1] for line in lines]


def test_a_resumed_pass_goes_on_in_its_order_and_long_texts_are_cut(tmp_path):
    _, _, batches = batches_of(tmp_path, max_length=5)
    _, _, rest = batches_of(tmp_path, max_length=5, start=3)
    whole = [labels.numpy().tolist() for _, labels in batches]
    found = [labels.numpy().tolist() for _, labels in rest]
    assert found[: len(whole) - 3] == whole[3:]
    assert max(len(row) for batch in whole for row in batch) == 6  # with the end


def test_what_is_no_size_is_refused(tmp_path):
    with pytest.raises(
        ValueError, match="`max_length` and `batch_tokens` must be an integer of at least 1"
    ):
        batches_of(tmp_path, max_length=0)
