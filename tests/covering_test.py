"""The covering arrays cover: cases, pairs, what is marked; and a run takes them."""

import itertools
import os
import subprocess
import sys

import pytest

from tests import style_test
from tests.covering import SHORT, cover

MODULE = """
import pytest

case = pytest.mark.parametrize("case", range(6))
mode = pytest.mark.parametrize("mode", ["lazy", "dense"])
dtype = pytest.mark.parametrize("dtype", ["a", "b", "c"])
joint = pytest.mark.parametrize(("x", "y"), [(0, 1), (0, 2), (3, 1)])


@case
@mode
@dtype
def test_product(case, mode, dtype):
    pass


@pytest.mark.every("mode", "case")
@case
@mode
@dtype
def test_marked(case, mode, dtype):
    pass


@joint
def test_joint(x, y):
    pass


@pytest.mark.parametrize("case", [0, pytest.param(1, marks=pytest.mark.exhaustive)])
def test_left_out(case):
    pass


@pytest.mark.exhaustive
def test_not_by_default():
    pass
"""


def product(**factors):
    return [
        dict(zip(factors, values, strict=True))
        for values in itertools.product(*map(range, factors.values()))
    ]


PRODUCTS = (
    product(case=30, dtype=4, mode=2, graph=2, index=2, flavour=2),
    product(case=2, dtype=4, mode=2),
    product(dtype=4, mode=2),
    product(name=SHORT + 1, mode=2, flavour=2),
    product(case=12),
    product(mode=2),
    product(flavour=1),
)


@pytest.mark.parametrize("rows", PRODUCTS, ids=lambda rows: "-".join(rows[0]))
def test_all_that_is_to_be_covered_is(rows):
    chosen = [rows[i] for i in cover(rows)]
    values = {f: {row[f] for row in rows} for f in rows[0]}
    for factor, its in values.items():
        assert {row[factor] for row in chosen} == its
    short = [f for f in values if f != "case" and len(values[f]) <= SHORT]
    for a, b in itertools.combinations(short, 2):
        pairs = {(row[a], row[b]) for row in chosen}
        assert pairs == set(itertools.product(values[a], values[b]))
    # And little more: the longest factor, or the two longest of the short ones.
    longest = sorted((len(values[f]) for f in short), reverse=True)[:2]
    pairs = longest[0] * longest[-1] if len(longest) > 1 else 1
    assert len(chosen) <= max(*map(len, values.values()), 1.5 * pairs)


def test_marked_combinations_are_all_kept():
    rows = product(case=7, dtype=4, mode=2)
    chosen = [rows[i] for i in cover(rows, ("case", "dtype"))]
    assert len({(row["case"], row["dtype"]) for row in chosen}) == len(chosen) == 28


def test_a_doubtful_row_covers_its_case_alone():
    rows = product(case=3, dtype=3, mode=2)
    doubts = [row["case"] == 0 for row in rows]
    certain = [rows[i] for i in cover(rows, (), doubts) if not doubts[i]]
    pairs = {(row["dtype"], row["mode"]) for row in certain}
    assert len(pairs) == 6
    assert any(rows[i]["case"] == 0 for i in cover(rows, (), doubts))


def test_cases_meet_the_values_of_the_others():
    rows = product(case=8, dtype=4, mode=2)
    chosen = [rows[i] for i in cover(rows)]
    assert len(chosen) == 8
    for factor, count in (("dtype", 2), ("mode", 4)):
        values = [row[factor] for row in chosen]
        assert all(values.count(value) == count for value in values)


@pytest.fixture
def run(tmp_path):
    """Runs pytest on the module above; returns what it printed."""
    (tmp_path / "conftest.py").write_text(
        'pytest_plugins = ["tests.flavours", "tests.covering"]\n'
    )
    (tmp_path / "x_test.py").write_text(MODULE)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    environment = {k: v for k, v in os.environ.items() if "PYTEST" not in k}

    def run(*arguments):
        ran = subprocess.run(
            [sys.executable, "-m", "pytest", "-v", *arguments],
            cwd=tmp_path,
            env={**environment, "PYTHONPATH": str(style_test.ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == 0, ran.stdout
        return ran.stdout

    return run


def test_a_run_takes_covering_arrays_unless_told_otherwise(run):
    printed = run("x_test.py")
    assert "22 passed, 56 deselected" in printed  # 6 + 12 + 3 + 1
    names = [line for line in printed.splitlines() if "::" in line]
    assert names == [line for line in run("x_test.py").splitlines() if "::" in line]
    assert "78 passed" in run("x_test.py", "--exhaustive")
    assert "36 passed" in run("x_test.py::test_product")
    assert "1 passed" in run("x_test.py::test_not_by_default")
