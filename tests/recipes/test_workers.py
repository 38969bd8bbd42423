import pytest

from kzoo.training import checkpoints
from recipes import runs, translation
from recipes.runs import folder, workers


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"workers": "a:1"}, "`workers` must be two or more different host:port"),
        (
            {"workers": "a:1,b:2"},
            "`worker` must be the number of this process in `workers`, 0 to 1",
        ),
        ({"worker": 1}, "`worker` needs `workers`, got worker=1"),
        (
            {"workers": "a:1,b:2", "worker": 0, "dry_run": True},
            "`dry_run` is for one worker, got 2",
        ),
        (
            {"workers": "a:1,b:2", "worker": 0, "accumulate": 2},
            "`accumulate` must be 1 with several",
        ),
        ({"accumulate": 0}, "`accumulate` must be at least 1, got accumulate=0"),
        ({"ema": 1.0}, r"`ema` must lie in \[0, 1\), got ema=1.0"),
        (
            {"recompute": True, "model": "rnn_luong"},
            "`recompute` needs a transformer, got recompute",
        ),
    ],
)
def test_flags_that_do_not_go_together_are_refused(flags, message):
    with pytest.raises(ValueError, match=message):
        translation.Config(**flags)


class Chief:
    """What a chief has said once, for a worker without one."""

    is_chief, index = False, 1

    def __init__(self, said):
        self.said = said

    def bytes_from_chief(self, content=b""):
        return self.said


class Listened(Chief):
    """A chief that keeps what it says."""

    is_chief, index = True, 0

    def bytes_from_chief(self, content=b""):
        self.said = content
        return content


@pytest.fixture
def opens(tmp_path, monkeypatch):
    """open_run of the chief, or of a worker that has heard what the chief said last."""
    config = translation.Config(output=str(tmp_path), resume=True)
    chief = Listened(None)

    def opens(is_chief, digest="digest"):
        who = chief if is_chief else Chief(chief.said)
        monkeypatch.setattr(workers, "workers_of", lambda config: who)
        return runs.open_run(config, tmp_path, digest)

    run = opens(is_chief=True)
    (run / "journal.jsonl").write_text('\n{"epoch": 2, "minutes": 1.5, "loss": 3.0}')
    return opens


@pytest.fixture
def opened(opens):
    """open_run of a worker whose chief's run has come to batch 12."""
    position = checkpoints.Position(epoch=2, step=0, batches=12, minutes=1.5)
    run = opens(is_chief=True)
    checkpoints.write_position(run / folder.CHECKPOINTS, position)
    opens(is_chief=True)
    return lambda digest: (run, position, opens(is_chief=False, digest=digest))


def test_a_worker_begins_where_the_run_of_its_chief_is_and_writes_elsewhere(opened, tmp_path):
    run, position, found = opened("digest")
    assert tmp_path not in found.parents
    assert runs.position(found) == runs.position(run) == position
    assert runs.open_journal(found).epochs == 2
    assert not runs.is_fitted(found)


def test_a_worker_knows_that_the_run_of_its_chief_is_fitted(opens):
    for name, expected in (("fitted", False), (folder.BEST, True)):  # without its weights it is not
        (opens(is_chief=True) / name).touch()
        assert runs.is_fitted(opens(is_chief=True)) == expected
        assert runs.is_fitted(opens(is_chief=False)) == expected


def test_a_worker_that_reads_other_data_than_its_chief_is_refused(opened):
    with pytest.raises(ValueError, match="`worker` 1 must read the data that the chief reads"):
        opened("other")
