"""`benchmarks.report`: tables of README pages out of the files of runs."""

import json
import re
from pathlib import Path

import pytest

from benchmarks import report

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", report.PAGES)
def test_the_tables_of_a_page_are_those_of_their_runs(name):
    page = ROOT / name
    text = page.read_text(encoding="utf-8")
    assert text.count("\n<!-- table of ") == len(report.TABLE.findall(text))
    assert report.with_tables(text, page.parent) == text


TYPED = {"Benchmarks"}  # which scripts there are


def test_tables_of_benchmarks_come_from_runs():
    text = report.TABLE.sub("", (ROOT / "benchmarks/README.md").read_text(encoding="utf-8"))
    sections = re.split(r"^#+ ", text, flags=re.M)[1:]
    assert {each.partition("\n")[0] for each in sections if "\n|--" in each} == TYPED


def test_a_run_that_is_kept_has_a_row_with_its_command_and_scores(tmp_path):
    (tmp_path / "model_card.md").write_text(
        "# Speech\n\n|  |  |\n| --- | --- |\n| scored on | test: 95 clips |\n"
        "| command | python -m recipes.x --a 1 |\n| time | 9.0 minutes of training |\n"
        "| machine | 2 cores |\n| licence | CC0 |\n"
    )
    scores = {"test WER": {"name": "WER", "value": 5.8275, "signature": "words:429|sub:18"}}
    (tmp_path / "metrics.json").write_text(json.dumps(scores | {"clips a second": 2.0}))
    run = report.kept(tmp_path)
    assert run["metrics"]["test WER"] == scores["test WER"]
    (tmp_path / "results").mkdir()
    (tmp_path / "results/x.json").write_text(json.dumps(run))
    text = "<!-- table of results/x.json: test WER, test CER -->\nold\n<!-- end of the table -->\n"
    new = report.with_tables(f"Before\n\n{text}after\n", tmp_path)
    assert new.startswith(
        "Before\n\n<!-- table of results/x.json: test WER, test CER -->\n\n| scored"
    )
    assert new.endswith(
        "| test: 95 clips | `python -m recipes.x --a 1` | 9.0 minutes, 2 cores "
        "| 5.83 `words:429\\|sub:18` |  |\n\n<!-- end of the table -->\nafter\n"
    )
    assert report.with_tables(new, tmp_path) == new


def test_keep_and_name_go_together():
    with pytest.raises(ValueError, match="`keep` and `name` must be given together"):
        report.Config(keep="saved_models/x/1")
