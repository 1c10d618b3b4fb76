"""The TensorFlows that the package is built for, and what each goes with.

python build_deps/versions.py chosen      the minor version to build for
python build_deps/versions.py pins        its pins, as pip reads them

That is TF_VERSION (`TF_VERSION=2.18 ./configure.sh`), or else that of the TensorFlow
that this Python has, or else the first of the table.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import os
import sys


@dataclasses.dataclass(frozen=True)
class Release:
    """One minor version of TensorFlow."""

    tensorflow: str
    tf_keras: str
    ml_dtypes: str
    numpy: str
    pythons: tuple[str, ...]
    # The Keras of its time. Pip takes the newest, and so does our environment.
    keras: str
    # What its headers offer jit_compile=True on a CPU: cc/values/xla_since.h.
    jit: str = "CPU drivers"

    def pins(self) -> list[str]:
        """The lines of a requirements file."""
        return [
            f"tensorflow=={self.tensorflow}",
            f"tf_keras=={self.tf_keras}",
            f'keras=={NEWEST_KERAS}; python_version >= "3.11"',
            'keras==3.12.0; python_version < "3.11"',
            *_numpy_pins(self.numpy),
            f"ml_dtypes=={self.ml_dtypes}",
        ]


NEWEST_KERAS = "3.15.1"
_LAST_NUMPY_FOR_310 = "2.2.6"


def _numpy_pins(version: str) -> list[str]:
    if tuple(map(int, version.split("."))) <= (2, 2, 6):
        return [f"numpy=={version}"]
    return [
        f'numpy=={version}; python_version >= "3.11"',
        f'numpy=={_LAST_NUMPY_FOR_310}; python_version < "3.11"',
    ]


_TO_312 = ("3.10", "3.11", "3.12")
_TO_313 = (*_TO_312, "3.13")
# Built for by default: the first.
RELEASES = {
    "2.21": Release("2.21.0", "2.21.0", "0.6.0", "2.4.6", _TO_313, keras="3.13.2"),
    "2.20": Release("2.20.0", "2.20.1", "0.6.0", "2.4.6", _TO_313, keras="3.11.3"),
    "2.19": Release("2.19.1", "2.19.0", "0.6.0", "2.1.3", _TO_312, keras="3.9.2"),
    "2.18": Release("2.18.1", "2.18.0", "0.6.0", "2.0.2", _TO_312, keras="3.6.0"),
    "2.17": Release(
        "2.17.1", "2.17.0", "0.4.1", "1.26.4", _TO_312, keras="3.4.1", jit="portable"
    ),
    "2.16": Release(
        "2.16.2", "2.16.0", "0.3.2", "1.26.4", _TO_312, keras="3.3.3", jit="portable"
    ),
}
DEFAULT = next(iter(RELEASES))


def minor_of(version: str) -> str:
    """ "2.18" of "2.18.1"."""
    return ".".join(version.split(".")[:2])


def expected() -> str:
    """What an error says was expected."""
    return f"TensorFlow {', '.join(reversed(RELEASES))}"


def installed() -> str | None:
    """The minor version of this Python's TensorFlow; None without one."""
    for name in ("tensorflow", "tensorflow-cpu"):
        try:
            return minor_of(importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            pass
    return None


def chosen() -> str:
    """The minor version to build for.

    Raises:
        ValueError: if TF_VERSION is none of them, or not for this Python.
    """
    named = os.environ.get("TF_VERSION")
    if named and minor_of(named) not in RELEASES:
        raise ValueError(
            f"expected TF_VERSION to be of {expected()}. Received: TF_VERSION={named}."
        )
    found = installed()
    minor = minor_of(named) if named else found if found in RELEASES else DEFAULT
    python = ".".join(map(str, sys.version_info[:2]))
    if python not in RELEASES[minor].pythons:
        raise ValueError(
            f"expected Python {', '.join(RELEASES[minor].pythons)} for TensorFlow "
            f"{minor}. Received: Python {python}."
        )
    return minor


def main():
    (what,) = sys.argv[1:]
    try:
        minor = chosen()
    except ValueError as error:
        sys.exit(f"configure: error: {error}")
    print(minor if what == "chosen" else "\n".join(RELEASES[minor].pins()))


if __name__ == "__main__":
    main()
