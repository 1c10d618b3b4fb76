"""Which TensorFlow a build is for, and what is written about those that were tested."""

import os
import pathlib
import re
import subprocess
import sys

import pytest

from build_deps import compatibility, highway, matrix, versions, wheels
from tf_optim import library

ROOT = pathlib.Path(__file__).resolve().parent.parent


def say(what, **variables):
    """(exit status, what it printed) of build_deps/versions.py."""
    ended = subprocess.run(
        [sys.executable, "build_deps/versions.py", what],
        cwd=ROOT,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
    )
    return ended.returncode, (ended.stdout + ended.stderr).strip()


def test_the_environments_own_is_chosen():
    assert say("chosen") == (0, versions.installed())
    assert versions.installed() == versions.minor_of(library.build_info()["tensorflow"])


def test_another_is_named():
    assert say("chosen", TF_VERSION="2.20") == (0, "2.20")
    assert say("chosen", TF_VERSION="2.20.0") == (0, "2.20")
    status, pins = say("pins", TF_VERSION="2.20")
    assert status == 0 and "tensorflow==2.20.0" in pins.splitlines()


def test_one_that_is_not_supported():
    status, said = say("pins", TF_VERSION="2.15")
    assert status == 1
    assert said == (
        "configure: error: expected TF_VERSION to be of TensorFlow 2.16, 2.17, 2.18, "
        "2.19, 2.20, 2.21. Received: TF_VERSION=2.15."
    )


def test_one_that_this_python_has_no_wheel_for(monkeypatch):
    monkeypatch.setenv("TF_VERSION", "2.18")
    monkeypatch.setattr(versions.sys, "version_info", (3, 13, 0))
    with pytest.raises(
        ValueError, match=r"3\.12 for TensorFlow 2\.18\. Received: .*13"
    ):
        versions.chosen()


@pytest.mark.parametrize("minor", versions.RELEASES)
def test_pins_are_of_one_version(minor):
    release = versions.RELEASES[minor]
    assert versions.minor_of(release.tensorflow) == minor
    assert versions.minor_of(release.tf_keras) == minor
    for python in release.pythons:
        old = tuple(map(int, python.split("."))) < (3, 11)
        for package in ("keras", "numpy"):
            fits = [
                pin
                for pin in release.pins()
                if pin.startswith(f"{package}==")
                and ("<" in pin) in ([old] if ";" in pin else [True, False])
            ]
            assert len(fits) == 1, (package, python)


def test_highway_that_is_not_there_or_too_old(monkeypatch, tmp_path):
    monkeypatch.setenv("HIGHWAY_INCLUDE", str(tmp_path))
    with pytest.raises(SystemExit, match="Highway 1.3 or later. Received: none in"):
        highway.include(tmp_path)
    (tmp_path / "hwy").mkdir()
    header = tmp_path / "hwy" / "base.h"
    header.write_text("#define HWY_MAJOR 1\n#define HWY_MINOR 0\n")
    with pytest.raises(SystemExit, match=r"Received: 1\.0 in"):
        highway.include(tmp_path)
    header.write_text("#define HWY_MAJOR 1\n#define HWY_MINOR 3\n")
    assert highway.include(tmp_path) == str(tmp_path)


def test_table_of_what_was_tested():
    run = {"tensorflow": "2.18.1", "keras": "3.6.0", "tf_keras": "2.18.0"}
    run |= {"numpy": "2.0.2", "passed": 7, "skipped": 1, "failed": ["a_test::b"]}
    record = {"python": "3.11", "jit": "CPU drivers", "date": "2026-01-02"}
    records = {
        "tensorflow 2.18, python 3.11": {**record, "commit": "abc", "runs": [run]}
    }
    lines = compatibility.table(records).splitlines()
    assert lines[2] == (
        "| 2.18.1 | 3.11 | 3.6.0 | 2.18.0 | 2.0.2 | CPU drivers | 7 passed, 1 failed | "
        "2026-01-02, abc |"
    )
    assert lines[-1] == "- TensorFlow 2.18.1, Keras 3.6.0: `a_test::b`"


def test_combinations_are_those_of_the_table():
    names = [each.name for each in matrix.combinations()]
    assert len(names) == sum(len(r.pythons) for r in versions.RELEASES.values())
    assert names[0] == f"tensorflow {versions.DEFAULT}, python 3.11"


def test_wheels_hold_the_libraries_that_setup_builds():
    listed = re.search(r"LIBRARIES = \[(.*?)\]", (ROOT / "setup.py").read_text())[1]
    names = {f"{name}.so" for name in re.findall(r'"(\w+)"', listed)}
    assert names == wheels.LIBRARIES
