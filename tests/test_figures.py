"""Tables of benchmarks out of what their scripts have written."""

import importlib
import json
import os
import sys

import pytest

from benchmarks import figures

FACTS = {"command": "python -m benchmarks.x", "machine": "2 cores, a CPU", "date": "2026-11-30"}
MADE = "`python -m benchmarks.x`, 2 cores, a CPU, 2026-11-30."


def cells(method, milliseconds, gigabytes):
    return {
        "method": method, "V": 10_000, "D": 256, "peak_gb": gigabytes,
        "seconds": [9.0, milliseconds / 1000, 0.0], "facts": FACTS,
    }  # fmt: skip


FOUND = {
    "decoding": (
        {
            "rows": [
                {
                    "size": "tiny", "batch": 32, "beam": 4,
                    "ms": {
                        "kzoo serving_default": 1200.4, "kzoo serving_xla": 200.0,
                        "ctranslate2 float32": 500.0, "ctranslate2 int8": 100.0, "marian": 300.0,
                    },
                }
            ]
        },
        "| tiny | 32 | 4 | 1,200 | 200 | 500 | 100 | 300 | 1.50 |",
    ),
    "vocabulary": (
        {
            "cells": [
                cells("full + Adam", 300, 1.26), cells("sampled + Adam", 200, 1.2),
                cells("sampled + LazyAdam", 150, 1.1),
            ]
        },
        "| 256 | 10,000 | 300, 1.3 | 200, 1.2 | 150, 1.1 | 2.0 | 1.00 |",
    ),
    "workers": (
        {
            "cases": [
                {
                    "model": "tiny", "tokens": 4096,
                    "seconds": {
                        "one core": [9.0, 1.0, 0.5], "two cores": [0.5], "two workers": [0.5],
                        "two halves": [0.45],
                    },
                }
            ]
        },
        "| tiny | 4,096 | 8,192 | 8,192 | 2.00 | 10% |",
    ),
    "recomputing": (
        {
            "rows": [
                {"recompute": False, "megabytes": 1200.0, "seconds": 1.0},
                {"recompute": True, "megabytes": 600.0, "seconds": 1.37},
            ]
        },
        "| computed again | 600 | 1,370 | 0.50 | 1.37 |",
    ),
    "pairs_on_disk": (
        {
            "rows": [
                {
                    "pairs": 20_000, "file_megabytes": 2.0, "batch_tokens": 2048, "batches": 107,
                    "most_megabytes": 1612.4, "first_step_seconds": 6.04,
                    "first_step_processor_seconds": 11.6, "resident_megabytes": [1500.0, 1600.2],
                }
            ]
        },
        "| 20,000 | 2,048 | 107 | 6.0 | 11.6 | 1,612 | 1,500 1,600 |",
    ),
    "streaming": (
        {
            "clients": 1,
            "rows": [
                {
                    "chunk_ms": 10, "latency_ms": 1.71, "latency_ms_99": 2.1,
                    "real_time_factor": 0.17, "letters": 5,
                }
            ],
        },
        "| 10 | 1.71 | 2.10 | 0.1700 |",
    ),
    "whisper": (
        {
            "rows": [
                {
                    "clips": "an4", "long": None, "beam": 5, "count": 60, "seconds": 151.2,
                    "same": 0.97, "WER kzoo": 5.171, "WER CTranslate2": 5.2, "signature": "words:9",
                    "kzoo, s/s": 6.0, "CTranslate2, s/s": 5.0,
                }
            ]
        },
        "| an4 | 60 | 151 | 5 | 97% | 5.17 | 5.20 | 6.00 | 5.00 | 1.20 |",
    ),
    "serving": (
        {
            "rows": [
                {
                    "signature": "n_best", "batch_size": 32, "clients": 8,
                    "servers": {
                        "bare gRPC": {"requests_a_second": 20.0, "median_ms": 84, "ms_99": 1200},
                        "kzoo, HTTP": {"requests_a_second": 19.0, "median_ms": 85, "ms_99": 90},
                        "peer, HTTP": {"requests_a_second": 9.5, "median_ms": 170, "ms_99": 171},
                    },
                }
            ],
            "peer": "6d8e6df",
        },
        "| `n_best` | yes | 8 | 20.0; 84, 1,200 | 19.0; 85, 90 | 9.5; 170, 171 | 0.95 | 2.00 |",
    ),
    "soak": (
        {
            "rows": [
                {"reloads": 0, "megabytes": 836.2, "requests": 7, "wrong": 0},
                {"reloads": 10, "megabytes": 1858.0, "requests": 1100, "wrong": 0},
            ]
        },
        "| resident MB | 836 | 1,858 |",
    ),
    "engines": (
        {
            "sentences": 200,
            "rows": [
                {
                    "beam": 4, "same": 199, "more_probable": [1, 0], "greatest_difference": 4e-5,
                    "BLEU kzoo": 36.251, "BLEU CTranslate2 float32": 36.25,
                    "BLEU CTranslate2 int8": 36.13, "signature": "nrefs:1",
                }
            ],
            "TensorFlow Lite": {"beam": 4, "sentences": 200, "same": 200, "milliseconds": 34.2},
        },
        "| 4 | 199 of 200 | 1, 0 | 0.00004 | 36.25 | 36.25 | 36.13 |",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FOUND)
def test_the_table_of_a_script_has_its_figures_and_says_where_they_are_from(name):
    found, row = FOUND[name]
    table = importlib.import_module(f"benchmarks.{name}").table({"facts": FACTS, **found})
    lines = table.splitlines()
    assert row in lines
    assert lines[0].count("|") == lines[1].count("|") == row.count("|")
    assert MADE.removesuffix(".") in lines[-1]


def test_ratios_are_left_out_where_an_engine_was_not_measured():
    row = {"size": "tiny", "batch": 1, "beam": 1, "ms": {"kzoo serving_xla": 14.0}}
    decoding = importlib.import_module("benchmarks.decoding")
    lines = decoding.table({"facts": FACTS, "rows": [row]}).splitlines()
    assert lines[0] == "| model | batch | beam | kzoo serving_xla |"
    assert lines[2] == "| tiny | 1 | 1 | 14 |"


def test_cells_of_two_runs_name_both():
    vocabulary = importlib.import_module("benchmarks.vocabulary")
    rows = [cells(method, 300, 1.2) for method in vocabulary.METHODS]
    rows[2]["facts"] = FACTS | {"machine": "another machine"}
    *_, first, _, second = vocabulary.table({"cells": rows}).splitlines()
    assert first == MADE
    assert second == MADE.replace("2 cores, a CPU", "another machine")


def test_facts_name_the_command_the_machine_and_the_versions(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["layers.py", "--only", "LuongAttention dot"])
    monkeypatch.setattr(os, "getloadavg", lambda: (0.7, 0.1, 0.1))
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    facts = figures.facts("layers", "pytest", "no-such-package", threads=1)
    assert facts["command"] == "python -m benchmarks.layers --only 'LuongAttention dot'"
    assert facts["machine"].endswith(", threads used: 1")
    assert f"{os.cpu_count()} cores" in facts["machine"]
    assert f"pytest {pytest.__version__}" in facts["versions"]
    assert "tensorflow" in facts["versions"] and "no-such-package" not in facts["versions"]
    assert "OMP_NUM_THREADS=2" in facts["environment"]
    assert facts["load average at the start"].startswith("0.7 (other programs are running")
    assert "OMP_NUM_THREADS=2" in figures.made(facts)
    assert figures.made(facts).endswith(", load average at the start 0.7.")


def test_a_run_that_is_not_over_leaves_the_figures_of_the_last_one(tmp_path):
    path = tmp_path / "new/layers.json"
    figures.write({"rows": [1]}, path)
    figures.write({"rows": [2]}, path, is_over=False)
    assert json.loads(path.read_text()) == {"rows": [1]}
    assert json.loads((tmp_path / "new/layers.json.unfinished").read_text()) == {"rows": [2]}
    figures.write({"rows": [2, 3]}, path)
    assert [each.name for each in path.parent.iterdir()] == ["layers.json"]
    assert json.loads(path.read_text()) == {"rows": [2, 3]}
    figures.write({"rows": [4]}, None)
