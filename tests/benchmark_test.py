"""The benchmark: its arithmetic, its refusal of wrong subjects, and a tiny run."""

import dataclasses
import io
import json

import numpy as np
import pytest

from tf_optim import reference
from tf_optim.benchmark import (
    cases,
    check,
    cli,
    plot,
    report,
    runner,
    subjects,
    traffic,
    worker,
)
from tf_optim.benchmark.work import LEARNING_RATE, Work, plan

KEYS = {
    "case",
    "optimizer",
    "subject",
    "ms",
    "spread",
    "bytes",
    "gbps",
    "limit_fraction",
    "ratio_to_ours",
    "extra_mb",
}
DENSE = cases.Case("tiny-dense", "40 numbers", "dense", ((8, 4), (8,)))
TABLE = cases.Case("tiny-table", "a table", "sparse", ((64, 4),), ids=32, zipf=1.2)
TABLES = cases.Case("tiny-tables", "tables", "sparse", ((64, 4), (5, 4)), ids=32)
RMSPROP = {"rho": 0.9, "momentum": 0.0, "epsilon": 1e-7}


def rmsprop(case):
    return Work(case, "RMSprop", {}, RMSPROP, {"velocity": 0.0})


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
    assert traffic.sparse_bytes(3, 1, 64, slots=0, row_slots=1) == expected


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


def test_ratios_are_taken_within_rounds():
    # The machine is twice as slow in the second round; the ratio is still 3.
    figures = {
        "keras3 graph": [0.003, 0.006, 0.0033],
        "ours": [0.001, 0.002, 0.001],
        "limit": [0.0005, 0.001, 0.0005],
    }
    about = {"bytes": 1_000_000, "extra_mb": 1.5, "note": ""}
    rows = runner.make_rows(rmsprop(DENSE), dict.fromkeys(figures, about), figures)
    assert [row["subject"] for row in rows] == ["ours", "keras3 graph", "limit"]
    ours, stock, limit = rows
    assert stock["ratio_to_ours"] == pytest.approx(3)
    assert stock["limit_fraction"] == pytest.approx(1 / 6)
    assert ours["ratio_to_ours"] == limit["limit_fraction"] == 1
    assert ours["limit_fraction"] == pytest.approx(0.5)
    assert ours["ms"] == pytest.approx(1)
    assert ours["gbps"] == pytest.approx(1)
    for row in rows:
        assert row.keys() >= KEYS
        assert row["case"] == "tiny-dense"
        assert row["spread"][0] <= row["ms"] <= row["spread"][1]


def test_limit_counts_its_own_bytes():
    # A peer that stores slots in 2 bytes moves fewer bytes than the limit.
    figures = {"torch": [0.002], "limit": [0.001]}
    about = {"extra_mb": None, "note": ""}
    ready = {"torch": {"bytes": 14, **about}, "limit": {"bytes": 28, **about}}
    rows = runner.make_rows(rmsprop(DENSE), ready, figures)
    assert rows[0]["limit_fraction"] == pytest.approx(0.25)
    assert rows[0]["ratio_to_ours"] is None


class NumPySubject(subjects.Subject):
    """The reference's formulas in float32, whole arrays at a time."""

    ours = True
    lazy = True
    hyper = RMSPROP

    def __init__(self, work, inputs):
        self._inputs = inputs
        shapes = inputs.case.shapes
        self._variables = [inputs.initial(i).astype(float) for i in range(len(shapes))]
        self._slots = [{"velocity": np.zeros(shape)} for shape in shapes]
        self._steps = 0

    def step(self):
        for i, variable in enumerate(self._variables):
            sparse = self._inputs.case.kind == "sparse"
            batch = self._steps % cases.BATCHES
            where = {"indices": self._inputs.ids(i)[batch]} if sparse else {}
            step = reference.sparse_step if sparse else reference.step
            self._variables[i], self._slots[i] = step(
                "RMSprop",
                variable,
                self._slots[i],
                self._inputs.gradient(i),
                self.hyper,
                LEARNING_RATE,
                self._steps,
                **where,
            )
        self._steps += 1

    def read(self, i, positions):
        dense = self._inputs.case.kind == "dense"
        variable = self._variables[i]
        return (variable.reshape(-1) if dense else variable)[positions]


class WrongSubject(NumPySubject):
    """Off by one percent in one hyperparameter."""

    hyper = {**RMSPROP, "rho": 0.909}


class WrongPeer(WrongSubject):
    ours = False
    hyper = {**RMSPROP, "rho": 0.5}


def prepare(monkeypatch, adapter, case):
    """What a worker answers when it is to prepare `adapter`, and the worker."""

    class Entry:
        load = staticmethod(lambda: adapter)

    monkeypatch.setattr(subjects, "find", lambda name, kind: Entry)
    made = worker.Worker("limit", 1)
    work = dataclasses.asdict(rmsprop(case))
    request = json.loads(json.dumps({"work": work}))
    return made, made.prepare("some subject", **request)


@pytest.mark.parametrize("case", [DENSE, TABLE, TABLES], ids=lambda c: c.name)
def test_right_subject_gets_a_time(monkeypatch, case):
    made, answer = prepare(monkeypatch, NumPySubject, case)
    assert "reason" not in answer and answer["note"] == ""
    assert made.time("some subject", 0.001)["seconds"] > 0


@pytest.mark.parametrize("case", [DENSE, TABLE], ids=lambda c: c.name)
def test_wrong_subject_is_refused_a_time(monkeypatch, case):
    made, answer = prepare(monkeypatch, WrongSubject, case)
    assert answer["failed"]
    assert "differ from the float64 reference" in answer["reason"]
    with pytest.raises(KeyError):
        made.time("some subject", 0.001)


def test_wrong_peer_is_named_wrong(monkeypatch):
    _, answer = prepare(monkeypatch, WrongPeer, DENSE)
    assert answer["note"].startswith("wrong in ")


def test_nan_is_wrong():
    verdict = check.compare(np.array([np.nan, 1.0]), np.ones(2), "float32")
    assert (verdict.checked, verdict.wrong) == (2, 1)


def test_answers_survive_an_error():
    answers = io.StringIO()
    request = json.dumps({"do": "time", "subject": "nobody", "budget": 1})
    worker.serve(worker.Worker("limit", 1), [request, request], answers)
    lines = answers.getvalue().splitlines()
    assert len(lines) == 2 and json.loads(lines[0])["failed"]


def test_every_variant_of_every_optimizer_is_planned():
    dense = [case for case in cases.CASES if case.name == "dense"]
    labels = [work.label for work in plan(dense)]
    assert len(labels) == len(set(labels))
    assert {"Adam", "Adam(amsgrad=True)", "RMSprop", "RMSprop(centered=True)"} <= set(
        labels
    )
    amsgrad = next(w for w in plan(dense) if w.label == "Adam(amsgrad=True)")
    assert amsgrad.full_slots == 3
    assert amsgrad.hyper["beta_2"] == 0.999
    plain = plan(dense, ["Adam"], plain_only=True)
    assert [work.label for work in plain] == ["Adam"]


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


def test_table_is_readable():
    figures = {"ours": [0.001], "keras3 graph": [0.123456]}
    about = {"bytes": 10**9, "extra_mb": 0.04, "note": "wrong in 12 % of numbers " * 9}
    rows = runner.make_rows(rmsprop(DENSE), dict.fromkeys(figures, about), figures)
    lines = report.table(rows, {"tiny-dense": "40 numbers"}).splitlines()
    assert max(map(len, lines)) <= 120
    assert lines[-2].startswith("ours") and "123" in lines[-1]


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
    about = {"bytes": 10**6, "extra_mb": 0.0, "note": ""}
    rows = runner.make_rows(rmsprop(DENSE), dict.fromkeys(figures, about), figures)
    path = tmp_path / "plot.png"
    plot.write_plot(str(path), rows, report.machine({}, 2))
    assert path.read_bytes().startswith(b"\x89PNG")


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
    measured = {(row["case"], row["subject"]) for row in record["rows"]}
    assert measured == {
        ("tiny-dense", "ours"),
        ("tiny-dense", "limit"),
        ("tiny-tables", "ours"),
        ("tiny-tables", "ours, dense update"),
        ("tiny-tables", "limit"),
    }
    for row in record["rows"]:
        assert row.keys() >= KEYS
        assert row["ms"] > 0 and row["note"] == ""
    assert "tiny-dense: 40 numbers" in capsys.readouterr().out
