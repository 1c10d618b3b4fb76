"""The benchmark times nobody who computes something else."""

import dataclasses
import json

import numpy as np
import pytest

from tests import cases as all_cases
from tests.benchmark_cases import APART, DENSE, FIT, TABLE, TABLES, plain
from tests.benchmark_cases import NAMES as ALL_NAMES
from tf_optim import reference, specs
from tf_optim.benchmark import (
    cases,
    check,
    subjects,
    worker,
)
from tf_optim.benchmark.work import LEARNING_RATE

# Subjects here do not begin with slots that are the variable.
NAMES = [name for name in ALL_NAMES if not specs.SPECS[name].starts_at_variable]


class NumPySubject(subjects.Subject):
    """The reference's formulas, whole arrays at a time."""

    ours = True
    lazy = True

    def __init__(self, work, inputs):
        self._work, self._inputs = self.changed(work), inputs
        self._variables, self._slots = [], []
        for i in range(len(inputs.case.shapes)):
            parts = self.parts(inputs.initial(i).astype(float))
            self._variables.append(parts)
            self._slots.append([self._first_slots(part) for part in parts])
        self._steps = 0

    def changed(self, work):
        return work

    def parts(self, array):
        """What is updated as if it were a variable of its own."""
        return [array]

    def _first_slots(self, part):
        rows = self._work.row_slots
        return {
            name: np.full(part.shape[:1] if name in rows else part.shape, value)
            for name, value in self._work.slots.items()
        }

    def step(self):
        work = self._work
        for i, (parts, slots) in enumerate(
            zip(self._variables, self._slots, strict=True)
        ):
            sparse = self._inputs.case.kind == "sparse"
            batch = self._steps % cases.BATCHES
            where = {"indices": self._inputs.ids(i)[batch]} if sparse else {}
            step = reference.sparse_step if sparse else reference.step
            if sparse and not self.lazy:
                where["mode"] = "dense"
            for k, gradient in enumerate(self.parts(self._inputs.gradient(i))):
                parts[k], slots[k] = step(
                    work.optimizer,
                    parts[k],
                    slots[k],
                    gradient,
                    work.hyper,
                    LEARNING_RATE,
                    self._steps,
                    weight_decay=work.weight_decay,
                    **where,
                )
        self._steps += 1

    def read(self, i, positions):
        dense = self._inputs.case.kind == "dense"
        variable = np.concatenate(self._variables[i], axis=-1)
        return (variable.reshape(-1) if dense else variable)[positions]


class DenseUpdate(NumPySubject):
    lazy = False


class WrongSubject(NumPySubject):
    """Off by one percent in one hyperparameter."""

    rho = 0.909

    def changed(self, work):
        return dataclasses.replace(work, hyper={**work.hyper, "rho": self.rho})


class WrongPeer(WrongSubject):
    ours = False
    rho = 0.5


class Undecayed(NumPySubject):
    def changed(self, work):
        return dataclasses.replace(work, weight_decay=0.0)


class InHalves(NumPySubject):
    """Takes the left and the right half of a variable for two."""

    def parts(self, array):
        return np.split(array, 2, axis=-1)


def prepare(monkeypatch, adapter, case):
    """What a worker answers when it is to prepare `adapter`, and the worker."""

    class Entry:
        load = staticmethod(lambda: adapter)

    monkeypatch.setattr(subjects, "find", lambda name, kind: Entry)
    made = worker.Worker("limit", 1)
    work = dataclasses.asdict(plain(case, "RMSprop"))
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


SCOPES = {row.name: row.scope for row in all_cases.OPTIMIZERS}


def verdict(adapter, case, name):
    work, inputs = plain(case, name), cases.Inputs(case)
    return check.check(adapter(work, inputs), work, inputs)


@pytest.mark.parametrize("name", NAMES)
def test_reach_is_what_the_reference_does(name):
    assert check.reach(plain(DENSE, name)) == SCOPES[name]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("case", [DENSE, TABLE, TABLES], ids=lambda c: c.name)
@pytest.mark.parametrize("adapter", [NumPySubject, DenseUpdate])
def test_right_subjects_are_right(adapter, case, name):
    found = verdict(adapter, case, name)
    assert found.checked > 0 and found.wrong == 0, found


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("case", [DENSE, TABLE], ids=lambda c: c.name)
def test_norms_of_a_part_are_wrong(case, name):
    # Where a number depends on itself alone, halves are as good as the whole.
    depends = SCOPES[name] != "element"
    assert (verdict(InHalves, case, name).wrong > 0) == depends


@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_undecayed_is_wrong(kind):
    case = cases.Case("small", "64 x 64", kind, ((64, 64),), ids=32)
    assert verdict(NumPySubject, case, "AdamW").wrong == 0
    assert verdict(Undecayed, case, "AdamW").wrong > 0
    assert verdict(Undecayed, case, "Adam").wrong == 0


def test_rows_that_no_step_names_count_in_norms():
    # 4096 rows of which the check looks at some 400.
    case = dataclasses.replace(APART, shapes=((4096, 4),))
    assert verdict(DenseUpdate, case, "Lamb").wrong == 0

    class SaysDense(NumPySubject):
        lazy = False

        def step(self):
            self.lazy = True
            super().step()
            self.lazy = False

    assert verdict(SaysDense, case, "Lamb").wrong > 0


def test_nan_is_wrong():
    ones = np.ones(2)
    found = check.compare(np.array([np.nan, 1.0]), 0.9 * ones, ones, "float32")
    assert (found.checked, found.wrong) == (2, 1)


def test_tolerance_is_of_what_a_number_moves():
    before = np.linspace(-0.1, 0.1, 1000)
    for moved in (1e-3, 1e-5):
        wanted = before + moved
        near = check.compare(before + 1.0005 * moved, before, wanted, "float32")
        far = check.compare(before + 1.1 * moved, before, wanted, "float32")
        assert near.wrong == 0 and far.far == 1000


@pytest.mark.parametrize("name", ["RMSprop", "RowWiseAdagrad", "AdamW", "Lamb"])
def test_fit_of_ours_is_right(name):
    from tf_optim.benchmark import fit_subjects

    found = verdict(fit_subjects.Ours, FIT, name)
    assert found.checked > 200 and found.wrong == 0, found


def test_fit_sees_the_whole_table_where_stock_does():
    from tf_optim.benchmark import fit_subjects

    apart = dataclasses.replace(FIT, shapes=((4096, 4),), zipf=None)
    assert verdict(fit_subjects.Keras, apart, "Lamb").note == ""


def test_no_peer_is_asked_for_cautious_steps():
    work = dataclasses.replace(plain(DENSE, "Adam"), options={"cautious": True})
    for name in (subjects.OURS, subjects.LIMIT, "ours jit"):
        subjects.check_has_options(name, work)
    with pytest.raises(subjects.Unsupported, match="no cautious steps"):
        subjects.check_has_options("keras3 graph", work)
