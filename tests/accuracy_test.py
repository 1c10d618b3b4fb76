"""`python -m tf_optim.accuracy` and the table of `tf_optim.benchmark.slots`."""

import numpy as np
import pytest

import tf_optim
from tf_optim.accuracy import cli, tasks
from tf_optim.benchmark import slots
from tf_optim.demo import identifiers


@pytest.mark.parametrize("make", [tasks.digits_task, tasks.words_task, tasks.text_task])
def test_a_task_takes_its_steps_and_learns(make, monkeypatch):
    some = identifiers.standard_library_files()[:40]  # read from a cold disk
    monkeypatch.setattr(identifiers, "standard_library_files", lambda: some)
    task, steps = make(quick=True), []
    loss = task.run(
        tf_optim.Adam(task.learning_rate, slot_dtype="int8"), 0, lambda: steps.append(1)
    )
    assert len(steps) == task.steps
    frozen = task.run(tf_optim.Adam(0.0), 0, lambda: None)
    assert np.isfinite(loss) and loss < frozen


def test_the_table_compares_start_by_start():
    losses = {"task": {policy: [1.0, 2.0] for policy in cli.POLICIES}}
    losses["task"]["int8"] = [1.1, 2.0]
    lines = {
        line.split("|")[1].strip(): line for line in cli.table(losses).splitlines()
    }
    assert "1.5500" in lines["int8"] and "(+5.00%)" in lines["int8"]
    assert "%" not in lines["float32"]


def test_slots_are_counted_in_bytes():
    assert slots.bytes_of_slots("plain", 2, 64) == 8
    assert slots.bytes_of_slots("bfloat16", 2, 64) == 4
    assert slots.bytes_of_slots("int8", 2, 64) == 2 * (64 + 4) / 64
    figure = {"ms": 1.0, "ratio": 1.0, "spread": 0.0}
    row = {"case": "sparse", "feature": "int8", "ours": figure}
    assert "| 16.2 | 9 |" in slots.table([row], 2)  # 16.25 * 524,288 bytes in 1 ms
