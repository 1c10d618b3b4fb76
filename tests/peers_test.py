"""Tests of Keras' own, run on our classes: a part of what `tests.peers` runs."""

import importlib.util
import pathlib

import pytest

from tests import peers

FILES = ("optimizer_test.py", "adam_test.py", "sgd_test.py")


def test_keras_tests_of_optimizers():
    folder = pathlib.Path(importlib.util.find_spec("keras").origin).parent.parent
    if not list(peers.KERAS.files(folder, FILES)):
        pytest.skip("this Keras was installed without its tests")
    reports = peers.run(peers.KERAS, folder, FILES)
    result = peers.verdicts(peers.KERAS, reports)
    wrong = [test for test, verdict in result.items() if verdict in peers.WRONG]
    assert not wrong, "\n".join(peers.explained(peers.KERAS, reports, result))
    assert {test.split("::")[0] for test in result} == set(FILES)
    ours = [test for test, verdict in result.items() if verdict == "pass"]
    assert len(ours) > len(result) / 2, peers.table(result)


def test_a_test_that_makes_no_optimizer_of_ours_does_not_count(tmp_path):
    """And one that fails is seen: stock's place is not taken in vain."""
    folder = tmp_path / "keras" / "src" / "optimizers"
    folder.mkdir(parents=True)
    (folder / "some_test.py").write_text(
        "from keras.src import optimizers\n"
        "from keras.src.optimizers.adam import Adam\n\n\n"
        "def test_other():\n    optimizers.ScheduleFreeAdamW()\n\n\n"
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
