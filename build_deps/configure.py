"""Writes what Bazel needs to know about this machine (called by configure.sh)."""

import argparse
import os
import sys
import sysconfig
import tempfile
from pathlib import Path

import configure_cuda
import highway
import versions

HERE = Path(__file__).resolve().parent

# Debian's Bazel 4 fetches these three while it loads a build; here they are on disk.
OFFLINE_REPOSITORIES = {
    "rules_cc": HERE / "rules_cc",
    "rules_java": Path("/usr/share/bazel/rules/java"),
    "remote_coverage_tools": HERE / "remote_coverage_tools",
}


def first_with(header, folders, hint):
    """Returns the first of `folders` that holds `header`."""
    for folder in folders:
        if (Path(folder) / header).is_file():
            return str(folder)
    sys.exit(
        f"configure: error: expected {header} in one of "
        f"{', '.join(map(str, folders))}. Received: none. {hint}"
    )


def pybind11_include():
    if given := os.environ.get("TF_OPTIM_PYBIND11_INCLUDE"):
        return given
    import pybind11

    return pybind11.get_include()


def machine_facts():
    """What the repository rules in tf_configure.bzl read, by environment variable."""
    try:
        expected = f"TensorFlow {versions.chosen()}"
    except ValueError as error:
        sys.exit(f"configure: error: {error}")
    try:
        import tensorflow as tf
    except ImportError as error:
        sys.exit(
            f"configure: error: expected {expected} in {sys.prefix}. Received: {error}."
        )
    if versions.minor_of(tf.__version__) != versions.chosen():
        sys.exit(
            f"configure: error: expected {expected} in {sys.prefix}. "
            f"Received: {tf.__version__}."
        )
    headers = Path(tf.sysconfig.get_include())
    flags = [f for f in tf.sysconfig.get_compile_flags() if not f.startswith("-I")]
    return {
        "TF_OPTIM_PYTHON": sys.executable,
        "TF_OPTIM_TF_VERSION": tf.__version__,
        "TF_OPTIM_TF_INCLUDE": str(headers),
        "TF_OPTIM_TF_COPTS": " ".join(flags),
        "TF_OPTIM_TF_LINKOPTS": " ".join(tf.sysconfig.get_link_flags()),
        "TF_OPTIM_HIGHWAY_INCLUDE": highway.include(headers),
        "TF_OPTIM_PYBIND11_INCLUDE": pybind11_include(),
        # TensorFlow's wheel has them for a Python without its development package.
        "TF_OPTIM_PYTHON_INCLUDE": first_with(
            "Python.h",
            [
                sysconfig.get_paths()["include"],
                headers / "external/local_config_python/python_include",
            ],
            "On Debian or Ubuntu: apt-get install python3-dev",
        ),
    }


def version_flags(bazel_version):
    """Flags that only this Bazel knows or needs."""
    if bazel_version == "no_version":
        return [
            f'common --override_repository={name}="{path}"'
            for name, path in OFFLINE_REPOSITORIES.items()
        ]
    major = int(bazel_version.split(".")[0])
    if major >= 9:
        sys.exit(
            "configure: error: expected Bazel 4 to 8 (9 dropped WORKSPACE files). "
            f"Received: {bazel_version}. Bazelisk takes the right one by .bazeliskrc."
        )
    flags = ["common --noenable_bzlmod"] if major >= 6 else []
    return flags + (["common --enable_workspace"] if major >= 8 else [])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", required=True)
    parser.add_argument("--stamp", required=True)
    parser.add_argument("--bazel-version", required=True)
    parser.add_argument("--home-is-writable", action="store_true")
    args = parser.parse_args()

    # First: it needs no TensorFlow to fail.
    cuda = os.environ.get("TF_NEED_CUDA", "0") == "1" and configure_cuda.facts()
    facts = machine_facts() | (cuda or {})
    lines = [
        "# Written by configure.sh; your own flags belong in .bazelrc.user.",
        f"# tensorflow: {Path(facts['TF_OPTIM_TF_INCLUDE']).parent}",
        *(f'common --repo_env={name}="{value}"' for name, value in facts.items()),
        *version_flags(args.bazel_version),
    ]
    if not args.home_is_writable:
        root = Path(tempfile.gettempdir()) / f"bazel-tf_optim-{os.getuid()}"
        lines.append(f'startup --output_user_root="{root}"')
    lines.append(f"# stamp: {args.stamp}")
    output = Path(args.output)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
