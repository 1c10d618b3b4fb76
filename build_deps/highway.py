"""Finds Highway's headers of the right version.

TensorFlow 2.21's wheel carries them. For an older TensorFlow they come from the system,
where that is new enough, or out of a newer TensorFlow's wheel, which pip fetches: of
what pip and apt offer on Debian 12 the only one that is new enough (apt has 1.0.3).
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

LEAST = (1, 3)  # the one that all builds are tested with
SOURCE = "tensorflow-cpu==2.21.0"
IN_WHEEL = "tensorflow/include/external/com_google_highway/"
CACHE = Path(__file__).resolve().parent.parent / "build" / "highway"


def version_in(folder):
    """(1, 3) of the headers in a folder; None if there are none."""
    header = Path(folder) / "hwy" / "base.h"
    if not header.is_file():
        return None
    text = header.read_text()
    found = [re.search(rf"#define HWY_{n} (\d+)", text) for n in ("MAJOR", "MINOR")]
    return tuple(int(each[1]) for each in found) if all(found) else (0, 0)


def fetch():
    """Takes the headers out of a wheel."""
    with tempfile.TemporaryDirectory() as download:
        # Headers are the same for each Python and processor.
        wheel_of = ["--platform", "manylinux_2_27_x86_64", "--python-version", "3.11"]
        subprocess.run(
            [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
            + ["--disable-pip-version-check", "--no-input", "--only-binary=:all:"]
            + [*wheel_of, "--dest", download, SOURCE],
            check=True,
        )
        (wheel,) = Path(download).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            headers = [
                name
                for name in archive.namelist()
                if name.startswith(f"{IN_WHEEL}hwy/") and name.endswith(".h")
            ]
            archive.extractall(download, headers)
        # At once: an interrupted copy is not taken for a whole one.
        CACHE.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(CACHE, ignore_errors=True)
        shutil.move(Path(download) / IN_WHEEL, CACHE)


def include(tensorflow_headers):
    """The folder to include."""
    named = os.environ.get("HIGHWAY_INCLUDE")
    in_wheel = tensorflow_headers / "external/com_google_highway"
    places = [named] if named else [in_wheel, "/usr/include", CACHE]
    for folder in places:
        if (version_in(folder) or (0, 0)) >= LEAST:
            return str(folder)
    least = ".".join(map(str, LEAST))
    if named:
        found = ".".join(map(str, version_in(named) or ())) or "none"
        sys.exit(
            f"configure: error: expected HIGHWAY_INCLUDE to hold hwy/base.h of Highway "
            f"{least} or later. Received: {found} in {named}."
        )
    try:
        fetch()
    except (OSError, subprocess.CalledProcessError, ValueError) as error:
        sys.exit(
            f"configure: error: expected Highway {least} or later in one of "
            f"{', '.join(map(str, places))}, or from pip in {SOURCE}. "
            f"Received: {error}. HIGHWAY_INCLUDE=DIR names a folder that holds hwy/."
        )
    return str(CACHE)
