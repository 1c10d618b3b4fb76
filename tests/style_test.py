"""Every file that git knows or would add has the style of ruff and clang-format."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests import names

ROOT = Path(__file__).resolve().parent.parent
CPP = ("*.h", "*.cc", "*.cu", "*.cuh")
PYTHON = ("*.py",)


def tracked(patterns):
    listed = subprocess.run(
        [
            *("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"),
            *("--", *patterns),
        ],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    # A file deleted but not yet committed is still listed.
    files = [name for name in listed.stdout.split("\0") if (ROOT / name).is_file()]
    return sorted(filter(None, files))


@pytest.mark.parametrize(
    ("command", "patterns"),
    [
        (["ruff", "check", "--force-exclude"], PYTHON),
        (["ruff", "format", "--check", "--diff", "--force-exclude"], PYTHON),
        (["clang-format", "--dry-run", "-Werror"], CPP),
    ],
    ids=lambda value: "-".join(value[:2]) if isinstance(value, list) else "",
)
def test_style(command, patterns):
    tool = Path(sys.executable).with_name(command[0])
    assert tool.is_file(), f"expected {tool}: run ./configure.sh, which installs it."
    files = tracked(patterns)
    assert files, f"expected tracked files {patterns} in {ROOT}. Received: none."
    run = subprocess.run(
        [tool, *command[1:], *files], cwd=ROOT, capture_output=True, text=True
    )
    assert run.returncode == 0, f"\n{run.stdout}{run.stderr}"


def test_all_optimizers_have_a_public_name():
    is_known = names.LIST.read_text() == names.text()
    assert is_known, f"{names.LIST} is not up to date: run `python -m tests.names`."
