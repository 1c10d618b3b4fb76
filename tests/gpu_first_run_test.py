"""The one command for a machine with a GPU, as far as it goes without one."""

import json
import os
import subprocess
import sys

import pytest

from tests import gpu_build, gpu_first_run
from tf_optim import library

SCRIPT = ["bash", str(gpu_build.ROOT / "tests" / "gpu_first_run.sh")]


def run(*arguments, **environment):
    """The finished command, by a Python that cannot import TensorFlow."""
    return subprocess.run(
        [*SCRIPT, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHON": sys.executable, **environment},
    )


@pytest.fixture
def without_tensorflow(tmp_path):
    folder = tmp_path / "blocked"
    folder.mkdir()
    for name in ("tensorflow", "keras", "tf_keras"):
        text = f"raise ModuleNotFoundError('not here', name={name!r})\n"
        (folder / f"{name}.py").write_text(text)
    return {"PYTHONPATH": str(folder)}


def test_the_plan_fits_into_nine_minutes_and_has_every_part(tmp_path):
    done = run(tmp_path, "--plan")
    rows = [line.split() for line in done.stdout.splitlines()]
    assert [row[0] for row in rows] == [
        *("machine", "build", "checks", "xla"),
        *("memcheck", "racecheck", "synccheck", "initcheck"),
        *("large", "benchmark"),
    ]
    together = {"xla", "memcheck", "racecheck", "synccheck", "initcheck", "large"}
    in_turn = [int(row[1]) for row in rows if row[0] not in together]
    assert sum(in_turn) <= 540 + len(rows)
    assert all((gpu_build.ROOT / "tests" / name).exists() for name in paths(rows))


def paths(rows):
    words = [word for row in rows for word in row if word.startswith("tests/")]
    return {word.removeprefix("tests/") for word in words}


@pytest.mark.skipif(gpu_build.capability() is not None, reason="there is a GPU")
def test_a_machine_without_a_gpu_is_told_so(tmp_path):
    done = run(tmp_path / "out")
    assert done.returncode == 2
    assert "gpu_first_run: error: missing:" in done.stderr
    assert "a GPU (nvidia-smi and libcuda.so.1 show none)" in done.stderr
    assert not (tmp_path / "out").exists()


def test_an_unknown_part_is_an_error(tmp_path):
    done = run(tmp_path, "--only", "checks,cheques")
    assert done.returncode == 2
    assert "Received: ['cheques']" in done.stderr


def test_the_checks_run_on_the_emulation_without_tensorflow(
    tmp_path, without_tensorflow
):
    emulated = ("--emulated", "--library", library.find("_gpu.so"))
    done = run(tmp_path, *emulated, "--seconds", 300, **without_tensorflow)
    log = (tmp_path / "checks.log").read_text()
    assert done.returncode == 0, log + done.stderr
    assert " passed" in log and "failed" not in log
    (row,) = json.loads((tmp_path / "summary.json").read_text())
    assert (row["part"], row["result"]) == ("checks", "passed")


def test_a_part_that_fails_or_does_not_end_stops_no_other(tmp_path):
    def part(name, code):
        return gpu_first_run.Part(name, 1, [sys.executable, "-S", "-c", code])

    parts = [
        part("machine", "print('so be it'); raise SystemExit(3)"),
        part("build", "while True: pass"),
        part("checks", "print('still here')"),
    ]
    parts.insert(2, gpu_first_run.Part("memcheck", 0, ["true"], tool="no such tool"))
    library_file = tmp_path / "_gpu.so"
    library_file.touch()
    rows = gpu_first_run.run_all(parts, tmp_path, library_file, 6)
    assert [row["result"].split(" after")[0] for row in rows] == [
        "failed with status 3",
        "ended",
        "skipped: there is no no such tool",
        "passed",
    ]
    assert "so be it" in (tmp_path / "machine.log").read_text()
    assert "still here" in (tmp_path / "checks.log").read_text()
    assert json.loads((tmp_path / "summary.json").read_text()) == rows


def test_nothing_runs_on_a_library_that_was_not_built(tmp_path):
    parts = [gpu_first_run.Part("checks", 1, ["false"])]
    (row,) = gpu_first_run.run_all(parts, tmp_path, tmp_path / "_gpu.so", 5)
    assert row["result"] == "skipped: nothing was built"


def test_a_cards_capability_becomes_its_architecture(tmp_path, monkeypatch):
    """As nvidia-smi tells it; `-arch=native` would be a guess."""
    smi = tmp_path / "nvidia-smi"
    smi.write_text("#!/bin/sh\nprintf '9.0\\n8.0\\n'\n")
    smi.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert gpu_build.capability() == "90"
    assert gpu_build.architecture("90") == "-gencode=arch=compute_90,code=sm_90"
