"""Tests of Keras' own, run on our classes: a part of what `tests.peers` runs."""

import importlib.util
import pathlib

import pytest
import tensorflow as tf

from tests import peers

# File -> the class of ours that each of its tests makes, and no other. Beside two of
# the common kind, those that do not just run a rule's kernel or take another step
# than stock.
FILES = {
    "optimizer_test.py": None,
    "adam_test.py": "Adam",
    "sgd_test.py": "SGD",
    "adafactor_test.py": "Adafactor",
    "muon_test.py": "Muon",
    "schedule_free_adamw_test.py": "ScheduleFreeAdamW",
}


def test_keras_tests_of_optimizers():
    folder = pathlib.Path(importlib.util.find_spec("keras").origin).parent.parent
    found = {file.name for files in peers.KERAS.files(folder, FILES) for file in files}
    if not found:
        pytest.skip("this Keras was installed without its tests")
    reports = peers.run(peers.KERAS, folder, FILES)
    result = peers.verdicts(peers.KERAS, reports)
    wrong = [test for test, verdict in result.items() if verdict in peers.WRONG]
    assert not wrong, "\n".join(peers.explained(peers.KERAS, reports, result))
    assert {test.split("::")[0] for test in result} == found
    stock = tf.keras.optimizers
    assert found == {f for f, c in FILES.items() if c is None or hasattr(stock, c)}
    for test, report in reports.items():
        name = FILES[test.split("::")[0]]
        assert name is None or report["ours"] == [name], test
    ours = [test for test, verdict in result.items() if verdict == "pass"]
    assert len(ours) > len(result) / 2, peers.table(result)


def test_a_test_that_makes_no_optimizer_of_ours_does_not_count(tmp_path):
    """And one that fails is seen: stock's place is not taken in vain."""
    folder = tmp_path / "keras" / "src" / "optimizers"
    folder.mkdir(parents=True)
    (folder / "some_test.py").write_text(
        "from keras.src import optimizers\n"
        "from keras.src.optimizers.adam import Adam\n\n\n"
        "def test_other():\n    optimizers.Optimizer(0.1)\n\n\n"
        "def test_good():\n    assert Adam().sparse_update == 'dense'\n\n\n"
        "def test_by_name():\n"
        "    assert optimizers.get('sgd').sparse_update == 'dense'\n\n\n"
        "def test_bad():\n    assert Adam(0.5).sparse_update == 'lazy'\n"
    )
    reports = peers.run(peers.KERAS, tmp_path)
    assert peers.verdicts(peers.KERAS, reports) == {
        "some_test.py::test_other": "not ours",
        "some_test.py::test_good": "pass",
        "some_test.py::test_by_name": "pass",
        "some_test.py::test_bad": "fail",
    }
    assert "'dense' == 'lazy'" in reports["some_test.py::test_bad"]["text"]
