"""Tests with a twin under tf_keras: what comes of both, in one process and in two."""

import os
import pathlib
import subprocess
import sys

import pytest

MODULE = """
import os
import pytest

LEGACY = os.environ.get("TF_USE_LEGACY_KERAS") == "1"
pytestmark = pytest.mark.both_flavours
HERE = []


@pytest.fixture(scope="module")
def once():
    HERE.append("made")
    return HERE


def test_passes(once):
    assert once == ["made"]


def test_fails_under_tf_keras(once):
    assert once == ["made"]
    assert not LEGACY, "so it is"


@pytest.mark.skipif(LEGACY, reason="no tf_keras")
def test_is_skipped_under_tf_keras():
    pass


@pytest.mark.skipif(not LEGACY, reason="no Keras 3")
def test_is_skipped_under_keras_3():
    pass
"""


@pytest.fixture
def run(tmp_path):
    """Runs pytest on two such modules; (its exit status, what it printed)."""
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["tests.flavours"]\n')
    (tmp_path / "pytest.ini").write_text("[pytest]\npython_files = *.py\n")
    for name in ("one.py", "other.py"):
        (tmp_path / name).write_text(MODULE)
    environment = {
        key: value for key, value in os.environ.items() if "PYTEST" not in key
    }
    environment["PYTHONPATH"] = str(pathlib.Path(__file__).parents[1])
    environment.pop("TF_USE_LEGACY_KERAS", None)

    def run(*arguments, **more):
        ended = subprocess.run(
            [sys.executable, "-m", "pytest", "-ra", *arguments],
            cwd=tmp_path,
            env={**environment, **more},
            capture_output=True,
            text=True,
            timeout=600,
        )
        return ended.returncode, ended.stdout + ended.stderr

    run.path = tmp_path
    return run


@pytest.mark.parametrize("processes", [(), ("-n", "2", "--dist", "loadfile")])
def test_twins_come_out_as_in_the_child(run, processes):
    status, printed = run(*processes)
    assert status == 1
    assert "2 failed, 10 passed, 4 skipped" in printed
    for name in ("one", "other"):
        test = "test_fails_under_tf_keras (tf_keras)"
        assert f"FAILED {name}.py::{test}" in printed
    assert "so it is" in printed and "no tf_keras" in printed


def test_only_selected_twins_run(run):
    status, printed = run("-k", "passes and tf_keras", "one.py")
    assert status == 0 and "1 passed, 7 deselected" in printed


def test_a_child_that_dies_fails_the_twins_of_its_module(run):
    """And another one runs the next module's."""
    died = "\nif LEGACY:\n    os._exit(7)\n"
    (run.path / "one.py").write_text(MODULE + died)
    status, printed = run()
    assert status == 1 and "5 failed, 8 passed, 3 skipped" in printed
    assert "exit code 7" in printed


def test_a_twin_that_the_child_does_not_find_fails(run):
    lost = "\nif not LEGACY:\n    def test_of_keras_3():\n        pass\n"
    (run.path / "one.py").write_text(MODULE + lost)
    status, printed = run()
    assert status == 1 and "test_of_keras_3 (tf_keras)" in printed


def test_a_twin_that_the_child_deselects_fails(run):
    """Options from the environment count there, too, where no name has "tf_keras)"."""
    status, printed = run("one.py", PYTEST_ADDOPTS="-k 'passes and tf_keras'")
    assert status == 1 and "the tf_keras run has no such test" in printed


def test_stopping_early_leaves_no_child(run):
    lasting = """
import pathlib
import signal

if LEGACY:
    pathlib.Path("pid").write_text(str(os.getpid()))


def test_lasting():
    if LEGACY:
        signal.pause()
"""
    (run.path / "one.py").write_text(MODULE + lasting)
    status, printed = run("-x")
    assert status == 1 and "stopping after 1 failures" in printed
    with pytest.raises(ProcessLookupError):
        os.kill(int((run.path / "pid").read_text()), 0)
