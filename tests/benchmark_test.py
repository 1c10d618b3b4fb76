"""The benchmark: its arithmetic, its command, and a tiny run."""

import dataclasses
import io
import json

import numpy as np
import pytest

from tests.benchmark_cases import (
    DENSE,
    KEYS,
    NAMES,
    TABLE,
    TABLES,
    plain,
    rmsprop,
    rows_of,
)
from tf_optim.benchmark import (
    cases,
    cli,
    plot,
    report,
    runner,
    subjects,
    traffic,
    worker,
)
from tf_optim.benchmark.work import plan


@pytest.mark.parametrize("slots, expected", [(0, 12), (1, 20), (2, 28), (3, 36)])
def test_dense_bytes_per_float32(slots, expected):
    assert traffic.dense_bytes(1000, slots) == 1000 * expected


def test_dense_bytes_of_bfloat16():
    # Variable and gradient in 2 bytes, both slots in 4 or in 2.
    assert traffic.dense_bytes(1, 2, item=2, slot_item=4) == 22
    assert traffic.dense_bytes(1, 2, item=2, slot_item=2) == 14


def test_sparse_bytes():
    # 4 D K + 8 D (1 + S) + 8 K of one row of 64 hit 3 times, Adam.
    expected = 4 * 64 * 3 + 8 * 64 * 3 + 8 * 3
    assert traffic.sparse_bytes(3, 1, 64, slots=2) == expected
    # Row-wise: the slot is a line that is read and written.
    expected = 4 * 64 * 3 + 8 * 64 + 8 * 3 + 128
    assert traffic.sparse_bytes(3, 1, 64, slots=0, slot_lines=1) == expected


def test_slots_of_rows_share_cache_lines():
    inputs = cases.Inputs(dataclasses.replace(TABLE, ids=4096, zipf=None))
    without = traffic.case_bytes(inputs, slots=0)
    # All 64 rows are named, and 16 of their accumulators fit into a line.
    assert traffic.case_bytes(inputs, slots=0, row_slots=1) == without + 4 * 128
    inputs = cases.Inputs(DENSE)
    without = traffic.case_bytes(inputs, slots=0)
    assert traffic.case_bytes(inputs, slots=0, row_slots=1) == without + 8 * (8 + 8)


def test_second_pass_is_counted_where_no_cache_helps():
    assert traffic.dense_bytes(10**8, 2, passes=2) == 40 * 10**8
    assert traffic.dense_bytes(10**6, 2, passes=2) == 28 * 10**6
    inputs = cases.Inputs(next(case for case in cases.CASES if case.name == "dense"))
    moved = {
        name: Adapter().bytes_moved(plain(inputs.case, name), inputs)
        for name in ("Lamb", "Adam", "RowWiseAdagrad")
    }
    assert moved["Lamb"] == 40 * 4096**2
    assert moved["Adam"] == 28 * 4096**2
    assert moved["RowWiseAdagrad"] == 12 * 4096**2 + 8 * 4096


class Adapter(subjects.Subject):
    """One that does nothing."""

    def step(self):
        pass

    def read(self, i, positions):
        raise NotImplementedError


def test_case_bytes_add_up_over_tables():
    inputs = cases.Inputs(TABLES)
    expected = 0
    for i in range(2):
        unique = np.mean([len(set(batch)) for batch in inputs.ids(i)])
        expected += traffic.sparse_bytes(32, unique, 4, slots=1)
    assert traffic.case_bytes(inputs, slots=1) == pytest.approx(expected, abs=1)


def test_inputs_are_the_same_in_every_process_and_vary_within():
    one, other = cases.Inputs(TABLES), cases.Inputs(TABLES)
    for i in range(2):
        np.testing.assert_array_equal(one.ids(i), other.ids(i))
        np.testing.assert_array_equal(one.initial(i), other.initial(i))
        np.testing.assert_array_equal(one.gradient(i), other.gradient(i))
        assert one.ids(i).min() >= 0
        assert one.ids(i).max() < TABLES.shapes[i][0]
        assert one.gradient(i).shape == (32, 4)
    assert len(np.unique(one.initial(0))) > 200
    assert not np.array_equal(one.ids(0)[0], one.ids(0)[1])


def test_shapes_of_the_models():
    sizes = {case.name: case.numbers for case in cases.CASES}
    assert sizes["resnet50"] == 25_557_032
    assert sizes["bert-base"] == 109_482_240


def test_answers_survive_an_error():
    answers = io.StringIO()
    request = json.dumps({"do": "time", "subject": "nobody", "budget": 1})
    worker.serve(worker.Worker("limit", 1), [request, request], answers)
    lines = answers.getvalue().splitlines()
    assert len(lines) == 2 and json.loads(lines[0])["failed"]


def test_worker_that_is_killed_says_what_kills_workers():
    process = runner.Process("limit", 1)
    process._process.kill()
    answer = process.ask(do="hello")
    assert answer["dead"] and "limit worker was killed" in answer["reason"]
    assert "memory" in answer["reason"]


def test_every_variant_of_every_optimizer_is_planned():
    dense = [case for case in cases.CASES if case.name == "dense"]
    labels = [work.label for work in plan(dense, full=True)]
    assert len(labels) == len(set(labels))
    assert set(NAMES) | {"Adam(amsgrad=True)", "RMSprop(centered=True)"} <= set(labels)
    works = {work.label: work for work in plan(dense, full=True)}
    assert {work.label for work in plan(dense)} == set(dense[0].optimizers)
    assert works["Adam(amsgrad=True)"].full_slots == 3
    assert works["Adam(amsgrad=True)"].hyper["beta_2"] == 0.999
    assert works["SGD(momentum=0.9, nesterov=True)"].hyper["nesterov"] is True
    assert works["SGD"].slots == {}
    assert works["RowWiseAdagrad"].row_slots == ("accumulator",)
    assert works["Adagrad"].slots == {"accumulator": pytest.approx(0.1)}
    assert works["AdamW"].weight_decay == 0.004 and works["Adam"].weight_decay == 0


def test_cases_say_what_they_are_run_for():
    few = [case for case in cases.CASES if case.name == "bf16"]
    assert [work.label for work in plan(few)] == ["Adam", "RMSprop"]
    assert [work.label for work in plan(few, ["Lion"])] == ["Lion"]
    dense = [case for case in cases.CASES if case.name == "dense"]
    assert [work.label for work in plan(dense, quick=True)] == ["Adam", "RMSprop"]
    assert [work.label for work in plan(dense, ["SGD"], quick=True)] == ["SGD"]
    for case in cases.CASES:
        assert set(case.optimizers) <= set(NAMES)


def test_list(capsys):
    assert cli.main(["--list"]) == 0
    printed = capsys.readouterr().out
    for name in ("sparse-zipf", "bert-base", "keras3 jit", "fbgemm"):
        assert name in printed


@pytest.mark.parametrize("option", ["--case", "--optimizer", "--subject"])
def test_unknown_names_are_refused(capsys, option):
    with pytest.raises(SystemExit):
        cli.main([option, "nonsense"])
    assert "Received: nonsense" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--threads", "--placements"])
def test_numbers_below_one_are_refused(capsys, option):
    with pytest.raises(SystemExit):
        cli.main([option, "0"])
    assert f"{option} must be at least 1. Received: 0" in capsys.readouterr().err


def test_footnotes_name_each_reason_once():
    miss = {"case": "dense", "optimizer": "Adam", "subject": "torch"}
    missing = {**miss, "reason": "torch is not installed", "kind": "missing"}
    failed = {**miss, "subject": "ours", "reason": "error: off", "kind": "failed"}
    notes = report.footnotes([missing, missing, failed])
    assert notes.count("pip install tf_optim[bench]") == 1
    assert "ours HAS NO TIME: error: off [dense Adam]" in notes


def test_plot(tmp_path):
    pytest.importorskip("matplotlib")
    figures = {"ours": [0.001, 0.0011], "limit": [0.0009, 0.0009]}
    rows = rows_of(rmsprop(DENSE), figures)
    path = tmp_path / "plot.png"
    plot.write_plot(str(path), rows, report.machine({}, 2))
    assert path.read_bytes().startswith(b"\x89PNG")


def test_charts_of_records(tmp_path, capsys):
    """One for each case, and a summary of what is there."""
    pytest.importorskip("matplotlib")
    figures = {"ours": [0.001, 0.0011], "keras3 graph": [0.01, 0.01]}
    rows = rows_of(rmsprop(DENSE), figures)
    for case in ("dense", "sparse-uniform"):
        rows += [{**row, "case": case, "optimizer": "Adam"} for row in rows[:2]]
    records = tmp_path / "records.json"
    report.write_json(records, rows, [], report.machine({}, 2))
    assert cli.main(["--charts", str(records)]) == 0
    names = ["", *(f"-{case}" for case in ("tiny-dense", "dense", "sparse-uniform"))]
    paths = [tmp_path / f"records{name}.png" for name in names]
    assert capsys.readouterr().out.split() == [str(path) for path in paths]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)


def test_tiny_run(monkeypatch, capsys, tmp_path):
    """The real command with real workers, on a case of no size."""
    monkeypatch.setattr(cases, "CASES", (DENSE, TABLES))
    path = tmp_path / "records.json"
    status = cli.main(
        ["--quick", "--case", "tiny", "--threads", "1", "--json", str(path)]
        + ["--subject", "ours, dense update", "--optimizer", "RMSprop"]
    )
    record = json.loads(path.read_text())
    assert status == 0, record["not_measured"]
    measured = {(r["case"], r["subject"]): r["base"] for r in record["rows"]}
    assert measured == {
        ("tiny-dense", "ours"): "ours",
        ("tiny-dense", "limit"): "ours",
        ("tiny-tables", "ours"): "ours",
        ("tiny-tables", "ours, dense update"): "ours, dense update",
        ("tiny-tables", "limit"): "ours",
    }
    assert {row["rounds"] for row in record["rows"]} == {3}
    for row in record["rows"]:
        assert row.keys() >= KEYS
        assert row["ms"] > 0 and (row["note"] == "" or row["subject"] == "limit")
    assert "tiny-dense: 40 numbers" in capsys.readouterr().out


def test_workers_that_keep_memory_are_started_anew(monkeypatch):
    free = iter([100, 100, 61, 100, 59])
    monkeypatch.setattr(runner.memory, "available_bytes", lambda: next(free))
    settings = runner.Settings(rounds=1, budget=0.01, placements=1)
    with runner.Runner(settings, wanted=["limit"]) as run:
        first = dict(run._processes)
        for expected in (first.keys(), set()):
            run.measure_all([plain(DENSE, "RMSprop")])
            kept = {kind for kind in first if run._processes[kind] is first[kind]}
            assert kept == set(expected)
    assert {row["subject"] for row in run.rows} == {"ours", "limit"}
    assert not run.not_measured
