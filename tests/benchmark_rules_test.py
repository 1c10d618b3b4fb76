"""What the benchmark decides: before it sees data, and the same way for everybody."""

import dataclasses
import json

import pytest

from tests.benchmark_cases import DENSE, KEYS, TABLE, plain, ready, rmsprop, rows_of
from tf_optim.benchmark import (
    cases,
    check,
    markdown,
    report,
    rows,
    rules,
    runner,
    subjects,
)

LARGE = dataclasses.replace(DENSE, name="large", shapes=((4096, 2048),))


# --- orders


def test_an_order_is_a_permutation_that_its_place_decides():
    names = [entry.name for entry in subjects.SUBJECTS if "dense" in entry.kinds]
    orders = [rules.order(names, "dense", "Adam", 0, 0, i) for i in range(50)]
    assert all(sorted(each) == sorted(names) for each in orders)
    assert orders[3] == rules.order(reversed(names), "dense", "Adam", 0, 0, 3)
    assert len({tuple(each) for each in orders}) == 50
    # Nobody has one neighbour before it, nor one place.
    before = {each[each.index("ours") - 1] for each in orders if each[0] != "ours"}
    assert len(before) > 10
    assert len({each.index("ours") for each in orders}) > 10


# --- what is placed again


@pytest.mark.parametrize(
    "ratio, chosen",
    [(0.01, True), (0.9, True), (2.49, True), (2.5, False), (30.0, False)],
)
def test_again_is_what_is_close_however_fast(ratio, chosen):
    found = rules.again("a case", "Adam", {"peer": ratio, "other": None}, targets=())
    assert found == ({"peer"} if chosen else set())


@pytest.mark.parametrize(
    "ratio, chosen", [(2.9, False), (3.0, True), (5.0, True), (5.1, False)]
)
def test_again_is_what_is_near_a_target_on_both_sides(ratio, chosen):
    aim = (("a case", "Adam", "peer", 4.0),)
    found = rules.again("a case", "Adam", {"peer": ratio}, aim)
    assert found == ({"peer"} if chosen else set())
    assert not rules.again("a case", "SGD", {"peer": ratio}, aim)


def test_targets_name_what_exists():
    kinds = {case.name: case.kind for case in cases.CASES}
    for case, _, subject, ratio in rules.TARGETS:
        assert subjects.find(subject, kinds[case]) and ratio >= 1


class Process:
    """Stands for a worker. Takes 1 ms a step in the first placement, then 2."""

    versions = {}
    made = 0
    asked = []
    first = 3  # so many are started at once: keras3, torch, limit

    def __init__(self, kind, threads):
        self.kind = kind
        Process.made += 1
        self._first = Process.made <= Process.first

    def ask(self, do, subject=None, **_):
        Process.asked.append((do, subject))
        if do == "prepare":
            return ready(moved=10**8)
        # What was near is far later, and the other way round: nobody looks.
        slower = {"torch fused": 1.4, "torch foreach": 2.6, "tf raw op": 0.3}
        if not self._first:
            slower = {"torch fused": 9.0, "torch foreach": 1.0, "tf raw op": 9.0}
        ms = 1 if self._first else 2
        return {"seconds": 1e-3 * ms * slower.get(subject, 1.0)}

    def stop(self):
        pass


@pytest.fixture
def workers(monkeypatch):
    monkeypatch.setattr(Process, "made", 0)
    monkeypatch.setattr(Process, "asked", [])
    monkeypatch.setattr(runner, "Process", Process)
    return Process


def test_the_choice_is_made_once_and_everybody_has_as_many_rounds(workers):
    names = ["torch fused", "torch foreach", "tf raw op"]
    settings = runner.Settings(rounds=2, placements=3)
    with runner.Runner(settings, names) as run:
        run.measure_all([rmsprop(LARGE)])
    found = {row["subject"]: row for row in run.rows}
    assert {name: row["rounds"] for name, row in found.items()} == {
        "ours": 6,
        "ours, function": 6,
        "tf raw op": 6,
        "torch fused": 6,
        "torch foreach": 2,
        "limit": 6,
    }
    assert found["ours"]["ms"] == pytest.approx(2)
    assert found["torch fused"]["ratio_to_ours"] == pytest.approx(9)
    assert found["torch fused"]["base"] == "ours, function"
    assert found["tf raw op"]["base"] == "ours"
    assert not run.not_measured


def test_nobody_is_made_or_tuned_beside_another(workers):
    with runner.Runner(runner.Settings(rounds=3, placements=1)) as run:
        run.measure_all([rmsprop(LARGE)])
    done = [do for do, _ in workers.asked if do != "release"]
    everybody = len({name for _, name in workers.asked if name})
    assert done[:everybody] == ["prepare"] * everybody
    assert done[everybody : 2 * everybody] == ["tune"] * everybody
    assert done[2 * everybody :] == ["time"] * 3 * everybody
    turns = [name for do, name in workers.asked if do == "time"]
    rounds = [turns[i * everybody : (i + 1) * everybody] for i in range(3)]
    assert len({tuple(each) for each in rounds}) == 3
    assert len({frozenset(each) for each in rounds}) == 1


def test_groups_for_want_of_memory_count_nobody_twice(workers, monkeypatch):
    need = LARGE.numbers * 8
    free = int((need * 6 + LARGE.numbers * 4 * 8) / 0.7) + 10**6
    monkeypatch.setattr(runner.memory, "available_bytes", lambda: free)
    with runner.Runner(runner.Settings(rounds=3, placements=1)) as run:
        run.measure_all([rmsprop(LARGE)])
    prepared = [name for do, name in workers.asked if do == "prepare"]
    assert prepared.count("ours") > 2 and prepared.count("torch fused") == 1
    assert {row["rounds"] for row in run.rows} == {3}
    assert all(row["ratio_to_ours"] for row in run.rows)


# --- rows


def test_ratios_are_taken_within_rounds():
    # The machine is twice as slow in the second round; the ratio is still 3.
    figures = {
        "keras3 graph": [0.003, 0.006, 0.0033],
        "ours": [0.001, 0.002, 0.001],
        "limit": [0.0005, 0.001, 0.0005],
    }
    ours, stock, limit = made = rows_of(rmsprop(DENSE), figures)
    assert [row["subject"] for row in made] == ["ours", "keras3 graph", "limit"]
    assert stock["ratio_to_ours"] == pytest.approx(3)
    assert stock["limit_fraction"] == pytest.approx(1 / 6)
    assert ours["ratio_to_ours"] == 1
    assert ours["limit_fraction"] == pytest.approx(0.5)
    assert limit["limit_fraction"] is None
    assert ours["ms"] == pytest.approx(1)
    assert ours["gbps"] == pytest.approx(1000)
    for row in made:
        assert row.keys() == KEYS
        assert row["case"] == "tiny-dense"
        assert row["spread"][0] <= row["ms"] <= row["spread"][1]


def test_calls_are_compared_with_calls():
    figures = {
        "ours": [0.001],
        "ours, function": [0.002],
        "ours, concrete": [0.0018],
        "keras3 graph": [0.004],
        "keras3 function": [0.005],
        "torch fused": [0.003],
    }
    made = {row["subject"]: row for row in rows_of(rmsprop(DENSE), figures)}
    ratios = {name: row["ratio_to_ours"] for name, row in made.items()}
    assert ratios["keras3 graph"] == pytest.approx(4)
    assert ratios["keras3 function"] == pytest.approx(2.5)
    assert ratios["torch fused"] == pytest.approx(1.5)
    assert ratios["ours, concrete"] == pytest.approx(0.9)


def test_rows_are_compared_with_rows_and_tables_with_tables():
    figures = {
        "ours": [0.001],
        "ours, dense update": [0.040],
        "ours, after lookup": [0.002],
        "keras3 graph": [0.200],
        "tf lazy recipe": [0.007],
        "tf_keras legacy function": [0.300],
        "ours, dense update function": [0.050],
        "torch sparse, after lookup": [0.010],
    }
    lazy = {"ours", "ours, after lookup", "tf lazy recipe"}
    lazy |= {"torch sparse, after lookup"}
    about = {name: ready(lazy=name in lazy) for name in figures}
    made = rows_of(plain(TABLE, "Adam"), figures, about)
    ratios = {row["subject"]: row["ratio_to_ours"] for row in made}
    assert ratios["keras3 graph"] == pytest.approx(5)
    assert ratios["tf lazy recipe"] == pytest.approx(7)
    assert ratios["torch sparse, after lookup"] == pytest.approx(5)
    assert ratios["tf_keras legacy function"] == pytest.approx(6)
    # A step of Adagrad moves no row without a gradient: one mathematics.
    made = rows_of(plain(TABLE, "Adagrad"), figures, about)
    ratios = {row["subject"]: row["ratio_to_ours"] for row in made}
    assert ratios["keras3 graph"] == pytest.approx(200)


@pytest.mark.parametrize("name", ["SGD", "Adagrad", "RowWiseAdagrad", "Ftrl"])
def test_what_leaves_idle_rows_alone(name):
    assert not check.idles(plain(TABLE, name))


@pytest.mark.parametrize("name", ["RMSprop", "Adam", "AdamW", "Lion", "Adadelta"])
def test_what_moves_idle_rows(name):
    assert check.idles(plain(TABLE, name))


def test_a_round_that_a_subject_is_not_in_is_compared_with_nothing():
    """The machine is ten times as slow in the round that stock is not in."""
    rounds = [
        rows.Round({"ours": 0.001, "keras3 graph": 0.003}),
        rows.Round({"ours": 0.010}),
        rows.Round({"ours": 0.001, "keras3 graph": 0.003}),
        rows.Round({"ours": 0.5}, frozenset({"ours"})),
    ]
    about = dict.fromkeys(("ours", "keras3 graph"), ready())
    ours, stock = rows.make_rows(rows.Record(rmsprop(DENSE), about, rounds))
    assert stock["ratio_to_ours"] == pytest.approx(3)
    assert (ours["rounds"], stock["rounds"]) == (3, 2)
    assert ours["limit_fraction"] is stock["limit_fraction"] is None


@pytest.mark.parametrize("lost", ["torch fused", "limit"])
def test_a_subject_that_fails_in_a_later_placement_has_no_time(lost):
    names = ("ours", "torch fused", "limit")
    record = rows.Record(
        rmsprop(DENSE),
        dict.fromkeys(names, ready()),
        [rows.Round(dict.fromkeys(names, 0.001))],
    )
    run = runner.Runner(runner.Settings())
    answer = {"reason": "error: gone", "failed": True}
    run._drop(record, subjects.find(lost, "dense"), answer, [])
    made = rows.make_rows(record)
    assert [row["subject"] for row in made] == [n for n in names if n != lost]
    for row in made:
        if row["subject"] != "limit":
            assert row["limit_fraction"] == (None if lost == "limit" else 1)
    assert [miss["reason"] for miss in run.not_measured] == ["error: gone"]


# --- limits


def test_limit_counts_its_own_bytes():
    # A peer that stores slots in 2 bytes moves fewer bytes than the limit.
    figures = {"torch fused": [0.002], "limit": [0.001]}
    about = {"torch fused": ready(14 << 22), "limit": ready(28 << 22)}
    peer, _ = rows_of(rmsprop(DENSE), figures, about)
    assert peer["limit_fraction"] == pytest.approx(0.25)
    assert peer["ratio_to_ours"] is None


def test_what_is_beaten_is_no_limit():
    shown, note = rules.limit_fractions({"ours": 1.3, "peer": 0.5}, 2**30)
    assert shown == {"ours": None, "peer": None}
    assert note == "not a limit: ours is 1.30x as fast"
    shown, note = rules.limit_fractions({"ours": 1.01, "peer": 0.5}, 2**30)
    assert shown == {"ours": 1.0, "peer": 0.5} and note == ""
    shown, note = rules.limit_fractions({"ours": 0.02}, 2**20)
    assert shown == {"ours": None} and "caches" in note


def test_a_record_that_beats_the_limit_says_so():
    figures = {"ours": [0.001], "limit": [0.0015]}
    ours, limit = rows_of(rmsprop(DENSE), figures)
    assert ours["limit_fraction"] is None
    assert limit["note"] == "not a limit: ours is 1.50x as fast"


# --- what is shown


def test_table_is_readable():
    figures = {"ours": [0.001], "keras3 graph": [0.123456]}
    about = {"keras3 graph": ready(note="wrong in 12 % of numbers " * 9)}
    made = rows_of(rmsprop(DENSE), figures, about)
    lines = report.table(made, {"tiny-dense": "40 numbers"}).splitlines()
    assert max(map(len, lines)) <= 130
    assert lines[-2].startswith("ours") and "123" in lines[-1]
    assert "wrong in 12 %" in lines[-1]
    said = report.explanation(made)
    assert "ours (steps in a loop inside of one function): keras3 graph" in said


def records():
    """Of three optimizers, one of them with options."""
    made = []
    for name in ("Lion", "SGD", "Adam(amsgrad=True)"):
        work = dataclasses.replace(rmsprop(cases.CASES[0]), optimizer=name)
        figures = {"ours": [0.001], "keras3 graph": [0.002], "limit": [0.0004]}
        figures |= {"ours, function": [0.003], "ours, concrete": [0.00125]}
        if name == "SGD":
            figures |= {"torch fused": [0.0035], "torch foreach": [0.0033]}
        about = {"keras3 graph": ready(note="wrong in 12 % of numbers")}
        made += rows_of(work, figures, about)
    return {"rows": made}


def test_markdown_has_every_plain_optimizer_and_the_notes():
    lines = markdown.loops(records()).splitlines()
    assert lines[0].endswith("| ours, ms | of limit | Keras 3 |")
    assert [line.split(" | ")[1] for line in lines[2:]] == ["Lion", "SGD"]
    assert lines[2].endswith("| 1.00 | 40 % | 2.0x (12 % wrong) |")


def test_markdown_compares_calls_and_shows_the_fastest_form():
    lines = markdown.calls(records()).splitlines()
    assert lines[0].endswith("| ours, ms | as a concrete function, ms | torch |")
    assert lines[2].endswith("| 3.00 | 1.25 | - |")
    assert lines[3].endswith("| 3.00 | 1.25 | 1.1x (foreach) |")
    assert len(markdown.tables(records())) == 2  # nothing was looked up


def test_markdown_has_a_line_for_keras_result_on_the_table():
    case = next(case for case in cases.CASES if case.name == "sparse-uniform")
    figures = {
        "ours": [0.001],
        "ours, dense update": [0.040],
        "keras3 graph": [0.200],
        "tf lazy recipe": [0.007],
    }
    about = {"keras3 graph": ready(lazy=False)}
    about |= {"ours, dense update": ready(lazy=False)}
    made = rows_of(plain(case, "Adam"), figures, about)
    lazy, dense = markdown.loops({"rows": made}).splitlines()[2:]
    assert lazy.endswith("| Adam | 1.00 | - | - | 7.0x |")
    assert dense.endswith('| Adam, "dense" | 40.0 | - | 5.0x | - |')


def test_the_committed_tables_have_no_percentage_above_100():
    path = "docs/benchmark.json"
    with open(path, encoding="utf-8") as file:
        committed = json.load(file)["rows"]
    shares = [row["limit_fraction"] for row in committed if row["limit_fraction"]]
    assert shares and max(shares) <= 1


def test_topology_is_what_lscpu_says():
    text = "Architecture: x86_64\nThread(s) per core:  2\nL3 cache:   32 MiB (1 x)\n"
    found = report.topology(text)
    assert found == {"threads_per_core": "2", "l3": "32 MiB (1 x)"}
    assert report.topology("") == {}
    assert {"processor", "libc", "allocator"} <= report.machine({}, 2).keys()
