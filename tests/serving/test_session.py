"""A SavedModel in a session: the same answers as `kzoo.load`, and nothing is left of it."""

import ctypes
import gc
import threading

import pytest
import tensorflow as tf
from exported import TEXTS
from served_folder import ROWS, save_picky

pytest.importorskip("kserve", reason="needs the extra serving")

from kzoo.export import warmup
from kzoo.serving.session import BATCH_ROWS, SavedModelSession

QUEUE = {"max_delay_ms": 5.0, "batch_threads": 2, "max_queue": 11}


class Allocated(ctypes.Structure):
    """What glibc's mallinfo2 returns, in bytes."""

    _fields_ = [
        *((name, ctypes.c_size_t) for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd")),
        *((name, ctypes.c_size_t) for name in ("usmblks", "fsmblks", "uordblks", "fordblks")),
        ("keepcost", ctypes.c_size_t),
    ]


def allocated_megabytes():
    """What the process has allocated and not freed; resident memory would say less of that."""
    mallinfo2 = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if mallinfo2 is None:
        pytest.skip("needs the mallinfo2 of glibc 2.33")
    mallinfo2.restype = Allocated
    info = mallinfo2()
    return (info.uordblks + info.hblkhd) / 1e6


def opened(path, max_batch_size=ROWS, **changes):
    arguments = dict(warmup.string_signatures(path))
    return SavedModelSession(path, arguments, max_batch_size=max_batch_size, **(QUEUE | changes))


@pytest.fixture(scope="module")
def session(folder):
    session = opened(folder / "rnn" / "2")
    yield session
    session.close()


@pytest.mark.parametrize("in_batch", [False, True])
def test_a_session_answers_as_load_does(session, served, in_batch):
    contents = {"text": [text.encode() for text in TEXTS]}
    outputs = session.run("serving_default", contents, in_batch=in_batch)
    assert [text.decode() for text in outputs["text"]] == served["rnn"](TEXTS)
    assert set(outputs) == {*session.outputs["serving_default"], *[BATCH_ROWS] * in_batch}


def test_signatures_whose_shapes_show_the_batch_have_none(session):
    assert "serving_default" in session.batched and "serving_xla" in session.batched
    assert "align" not in session.batched  # as wide as the longest text


def test_rows_of_several_threads_are_one_batch(tmp_path):
    session, found = opened(save_picky(tmp_path / "1"), max_delay_ms=5000.0), {}
    session.run("serving_default", {"image_bytes": [b"1"] * ROWS}, in_batch=True)  # full: at once

    def ask(number):
        content = {"image_bytes": [b"%d" % number]}
        found[number] = session.run("serving_default", content, in_batch=True)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(ROWS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {number: of["score"].tolist() for number, of in found.items()} == {
        number: [number] for number in range(ROWS)
    }
    assert [of[BATCH_ROWS].tolist() for of in found.values()] == [[ROWS]] * ROWS
    session.close()


def test_a_batch_size_of_one_is_no_batch(tmp_path):
    session = opened(save_picky(tmp_path / "1"), max_batch_size=1)
    assert session.batched == set()
    assert session.run("serving_default", {"image_bytes": [b"3"]})["text"] == [b"3.0"]
    session.close()


def test_what_an_op_refuses_is_an_error_of_tensorflow(tmp_path):
    session = opened(save_picky(tmp_path / "1"))
    with pytest.raises(tf.errors.InvalidArgumentError, match="bad"):
        session.run("serving_default", {"image_bytes": [b"bad"]})
    session.close()


def test_a_session_s_graph_stays_as_it_is_when_python_collects(session):
    """TensorFlow's tables add an op that destroys them to a graph that is not final."""
    graph = session._session.graph
    version = graph.version
    gc.collect()
    assert graph.finalized and graph.version == version


def test_one_row_that_is_no_vector_is_one(tmp_path):
    session = opened(save_picky(tmp_path / "1"))
    assert session.run("serving_default", {"image_bytes": b"3"})["text"] == [b"3.0"]
    session.close()


def test_a_closed_session_gives_its_memory_back(folder):
    """XLA's compilations and the graphs of batches, too, which the eager runtime keeps."""
    texts, megabytes = {"text": [TEXTS[0].encode()]}, []
    for _ in range(4):
        session = opened(folder / "rnn" / "2")
        for signature in ("serving_default", "serving_xla"):
            session.run(signature, texts, in_batch=True)
        session.close()
        del session
        gc.collect()
        megabytes.append(allocated_megabytes())
    assert megabytes[3] - megabytes[1] < 3, megabytes
