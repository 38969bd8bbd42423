"""Folders that are written whole or not at all, also by processes that are killed."""

import os
import signal

import pytest

from kzoo.export import folder


def write_and(act, path):
    with folder.written_at_once(path) as part:
        part.mkdir()
        (part / "a").write_text("1")
        act()


def test_a_folder_appears_when_it_is_written_and_nothing_else(tmp_path):
    write_and(lambda: None, tmp_path / "models/1")
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["1"]
    assert (tmp_path / "models/1/a").read_text() == "1"
    with pytest.raises(FileExistsError, match="`path` must not exist yet, got"):
        write_and(lambda: None, tmp_path / "models/1")


def test_what_is_interrupted_leaves_nothing(tmp_path):
    def interrupt():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_and(interrupt, tmp_path / "1")
    assert not any(tmp_path.iterdir())


def test_what_a_killed_process_has_left_goes_with_the_next_one(tmp_path):
    child = os.fork()
    if child == 0:
        write_and(lambda: os.kill(os.getpid(), signal.SIGKILL), tmp_path / "1")
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    (left,) = tmp_path.iterdir()
    assert folder.HIDDEN.fullmatch(left.name) and (left / "1/a").exists()
    write_and(lambda: None, tmp_path / "1")
    assert [path.name for path in tmp_path.iterdir()] == ["1"]


def test_what_another_process_is_writing_stays_and_so_does_what_is_not_ours(tmp_path):
    names = {".11.abc.tmp", "x.0a1b2c3d.tmp", ".cache", "2"}
    for name in names:
        (tmp_path / name).mkdir()

    def write_another():
        write_and(lambda: None, tmp_path / "3")
        folder.remove_unfinished(tmp_path)

    write_and(write_another, tmp_path / "4")
    assert {path.name for path in tmp_path.iterdir()} == names | {"3", "4"}


def test_a_lock_is_given_once_and_again_when_it_is_closed(tmp_path):
    lock = folder.try_lock(tmp_path)
    assert folder.try_lock(tmp_path) is None
    os.close(lock)
    os.close(folder.try_lock(tmp_path))


def test_where_there_are_no_locks_everyone_gets_one_and_nothing_is_removed(tmp_path, monkeypatch):
    def no_locks(number, operation):
        raise OSError(38, "Function not implemented")

    (tmp_path / ".1.0a1b2c3d.tmp").mkdir()
    monkeypatch.setattr(folder.fcntl, "flock", no_locks)
    locks = [folder.try_lock(tmp_path) for _ in range(2)]
    assert None not in locks
    folder.remove_unfinished(tmp_path)
    monkeypatch.setattr(folder, "fcntl", None)
    locks.append(folder.try_lock(tmp_path))
    folder.remove_unfinished(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".1.0a1b2c3d.tmp"]
    for lock in locks:
        os.close(lock)
