"""The benchmark of "exact": its steps are real ones, and its figures add up."""

import json

import numpy as np
import pytest

import tf_optim
from tests.marks import both_flavours
from tf_optim.benchmark import composed, exact, features, tf_subjects, turns

SIZES = exact.Sizes(
    rows=300, width=4, ids=16, batches=40, growth=(50, 100), growth_width=2, idle=(1, 9)
)
CASES = list(exact.parts_of(SIZES))


class Clock:
    """A subject that takes the given times."""

    def __init__(self, *seconds):
        self._seconds = iter(seconds)

    def seconds(self):
        return next(self._seconds)


def test_ratios_are_taken_within_each_round():
    """A machine that is ten times as slow in one round changes none of them."""
    subjects = {
        "one": Clock(1.0, 10.0, 1.0, 1.0, 1.0),
        "two": Clock(2.0, 20.0, 2.0, 2.0, 2.0),
    }
    rounds = []
    times = turns.take(subjects, 5, rounds.append)
    assert rounds == [1, 2, 3, 4, 5]
    assert turns.figure(times["two"], times["one"]) == {
        "ms": 2000.0,
        "ms_spread": 4500.0,  # quartiles at 2 and 11 seconds
        "ratio": 2.0,
        "spread": 0.0,
    }


@pytest.mark.parametrize("case", ["uniform", "zipf"])
@both_flavours
def test_all_but_lazy_make_the_same_table(case):
    """That is, "exact" looks rows up before each step, and no loop skips a step."""
    tables = {}
    for part in exact.parts_of(SIZES)[case]:
        subject = exact.subject(part, "Adam", exact.inputs_of(part, SIZES))
        for steps in (1, 30, 30):  # on past the last batch of ids
            subject._make_steps(steps)
        if part.mode not in ("stock", "lazy"):
            subject._optimizer.catch_up()
        tables[part.mode] = subject._variables[0].numpy()
    for mode in ("exact", "eventual"):
        # The gradient depends on rows, which "eventual" reads as they lie.
        rtol = 1e-5 if mode == "exact" else 1e-3
        np.testing.assert_allclose(
            tables[mode], tables["dense"], rtol, rtol, err_msg=mode
        )
    apart = np.abs(tables["lazy"] - tables["dense"]).max()
    assert apart > 0.005


def test_most_rows_are_stale_when_they_are_looked_up():
    (part, *_) = exact.parts_of(exact.Sizes())["uniform"]
    ids = exact.inputs_of(part, exact.Sizes()).ids(0)
    assert ids.shape == (512, 8192)
    fresh = np.isin(ids[9], ids[8]).mean()
    assert fresh < 0.02


def test_every_case_gives_figures(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(exact, "QUICK", SIZES)
    monkeypatch.setattr(tf_subjects, "_CALL", 1e-3)  # seconds: no figure is asked for
    path = tmp_path / "figures.json"
    exact.main(["--quick", "--rounds", "2", "--json", str(path)])
    printed = capsys.readouterr().out
    rows = json.loads(path.read_text())
    assert list(dict.fromkeys(row["case"] for row in rows)) == CASES
    for case, parts in exact.parts_of(SIZES).items():
        found = [row for row in rows if row["case"] == case]
        assert [row["subject"] for row in found] == [part.name for part in parts]
        assert found[0]["ratio"] == 1.0
    for row in rows:
        assert row["ms"] > 0 and row["ratio"] > 0
        assert f"| {row['case']} | {row['subject']} | {row['ms']:.3g} +- " in printed


def test_a_table_without_memory_is_skipped_and_said(monkeypatch):
    small, large = exact.parts_of(SIZES)["growth-exact"]
    # Adam's two slots and the table, of two columns of float32.
    assert small.bytes(2) == 50 * 2 * 4 * 3
    monkeypatch.setattr(exact, "memory", lambda: small.bytes(2))
    rows = exact.measure("growth-exact", "Adam", SIZES, 1, say=lambda text: None)
    assert [row["subject"] for row in rows] == [small.name, large.name]
    assert rows[0]["ratio"] == 1.0
    assert rows[1]["skipped"].startswith("skipped: needs 2.4e-06 GB")
    assert "| skipped: needs" in exact.table(rows)


def test_the_features_go_by_the_same_turns(monkeypatch):
    """Their figures are `turns`'."""
    from tf_optim.benchmark import cases

    tiny = cases.Case("tiny", "a table", "sparse", ((60, 4),), ids=12)
    monkeypatch.setattr(cases, "CASES", (tiny,))
    monkeypatch.setattr(features, "CASES", {"sparse": "tiny"})
    monkeypatch.setattr(features, "FEATURES", {"plain": {}, "clipvalue": {}})
    monkeypatch.setattr(features, "ROUNDS", 2)
    monkeypatch.setattr(features, "STOCK_ROUNDS", 2)
    rows = features.measure("sparse", "Adam", say=lambda text: None)
    names = ["plain", "clipvalue", "Lookahead", "StochasticWeightAveraging"]
    assert [row["feature"] for row in rows] == names
    for make in ("ours", "stock"):
        assert rows[0][make]["ratio"] == 1.0
        assert rows[1][make]["ms"] > 0
    for row in rows[2:]:
        assert row["ours"]["ms"] > 0 and "stock" not in row
    assert features.table(rows).count("\n") == 5


def test_optimizers_that_are_no_rules_are_measured(monkeypatch):
    from tf_optim.benchmark import cases

    tiny = cases.Case("tiny", "a matrix", "dense", ((6, 4),))
    monkeypatch.setattr(cases, "CASES", (tiny,))
    names = {
        name
        for name in dir(tf_optim)
        if not getattr(getattr(getattr(tf_optim, name), "_spec", None), "is_rule", True)
    }
    assert names == set(composed.OPTIMIZERS)
    monkeypatch.setattr(composed, "ROUNDS", 2)
    rows = composed.measure("tiny", ("Adafactor", "SM3"), say=lambda text: None)
    assert [set(row) for row in rows] == [
        {"case", "optimizer", "ours", "stock"},
        {"case", "optimizer", "ours"},
    ]
    assert composed.table(rows).splitlines()[3].startswith("| tiny | SM3 | ")
    assert composed.table(rows).endswith(" | - | - |")
