"""Training that is killed with SIGKILL and started again ends in the same bits.

`python -m tests.kill --count 100` does more of it, under both Kerases.
"""

import collections

import numpy as np
import pytest

from tests import kill, kill_trainer


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """What training that is not killed makes, and how many lines it says."""
    lines = collections.Counter()
    folder = tmp_path_factory.mktemp("undisturbed")
    results = kill_trainer.train(folder, lambda way, what: lines.update([way]))
    return results, lines


def test_killed_training_ends_in_the_same_bits(undisturbed, tmp_path):
    expected, lines = undisturbed
    plan = list(kill.moments(np.random.default_rng(0), 1, lines))
    assert [way for way, *_ in plan] == list(kill.WAYS) == list(expected)
    where, received = kill.course(tmp_path, plan)
    assert received == expected
    # The last kill may come when the work is done.
    assert [way for way, _ in where][:2] == ["fit", "manager"]


def test_training_that_forgets_a_batch_is_seen(undisturbed, tmp_path, monkeypatch):
    """Else the test above would compare nothing."""
    expected, _ = undisturbed
    right = kill_trainer.done
    monkeypatch.setattr(kill_trainer, "WAYS", {"keras": kill_trainer.in_keras_files})
    monkeypatch.setattr(kill_trainer, "done", lambda model: max(1, right(model)))
    results = kill_trainer.train(tmp_path, lambda way, what: None)
    assert results["keras"] != expected["keras"]
