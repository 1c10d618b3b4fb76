#!/usr/bin/env bash
# Prepares this checkout for Bazel: a Python environment, Bazel itself, TensorFlow's flags.
# Asks nothing and can be run as often as you like; docs/building.md has the details.
#
#   PYTHON=python3.12      interpreter for .venv (default: the first supported one on PATH)
#   TF_VERSION=2.18        the TensorFlow to build for (default: the environment's, or else 2.21)
#   HIGHWAY_INCLUDE=DIR    a folder with hwy/ of Highway 1.3 (default: TensorFlow's, /usr/include, or from pip)
#   VIRTUAL_ENV=DIR        set by an active virtual environment, which is then used instead
#   TF_NEED_CUDA=1         look for nvcc, so that bazel build --config=cuda makes the GPU kernels
#   CUDA_HOME=DIR          the CUDA toolkit (default: nvcc on PATH, PyPI's nvidia-cuda-nvcc, /usr/local/cuda)
#   TF_CUDA_COMPUTE_CAPABILITIES=7.5,8.0,9.0
#                          the GPUs to build for (the newest also as PTX, for those to come)
#   TF_OPTIM_PYTHON=FILE   use this Python as it stands, install nothing into it (setup.py does)
#   TF_OPTIM_BAZELRC=FILE  where to write the flags (default: .tf_optim.bazelrc)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
[ -n "${HOME:-}" ] || unset HOME # an empty HOME would mean "/" to pip
unset PYTHONHOME

readonly REQUIREMENTS=build_deps/requirements.txt
readonly VERSIONS=build_deps/versions.py
readonly BAZELRC=${TF_OPTIM_BAZELRC:-.tf_optim.bazelrc}
readonly SUPPORTED='import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 14))'

say() { printf 'configure: %s\n' "$*"; }
die() {
  printf 'configure: error: %s\n' "$*" >&2
  exit 1
}

# Installs Debian packages, or says which ones the user has to install.
need_packages() { # why, packages...
  local why=$1
  shift
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    die "$why. Install it and run ./configure.sh again; on Debian or Ubuntu: sudo apt-get install $*"
  fi
  say "$why; installing $*"
  apt-get update -qq || say "apt-get update failed; trying with the lists at hand"
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" </dev/null >/dev/null ||
    die "$why, and apt-get could not install: $*"
}

find_base_python() {
  local candidate
  for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11 python3.10}; do
    if "$candidate" -c "$SUPPORTED" 2>/dev/null; then
      command -v "$candidate"
      return
    fi
  done
  die "expected Python 3.10 to 3.13 (TensorFlow has no wheels for others). Received:" \
    "${PYTHON:-python3} ($("${PYTHON:-python3}" --version 2>&1 | head -n 1))."
}

# Sets python: the interpreter that builds, tests and runs the package.
find_python() {
  if [ -n "${TF_OPTIM_PYTHON:-}" ]; then
    python=$TF_OPTIM_PYTHON
  elif [ -n "${VIRTUAL_ENV:-}" ]; then
    python=$VIRTUAL_ENV/bin/python
  else
    python=$PWD/.venv/bin/python
    "$python" -m pip --version >/dev/null 2>&1 || make_venv
  fi
  "$python" -c "$SUPPORTED" 2>/dev/null || die "expected Python 3.10 to 3.13 at $python. Received:" \
    "$("$python" --version 2>&1 | head -n 1)."
}

make_venv() {
  local base
  base=$(find_base_python)
  if ! "$base" -c 'import ensurepip, venv' 2>/dev/null; then
    need_packages "$base cannot make virtual environments" \
      "$("$base" -c 'import sys; print("python3.%d-venv" % sys.version_info[1])')"
  fi
  say "making .venv with $base"
  "$base" -m venv --clear .venv
}

find_bazel() {
  command -v g++ >/dev/null || need_packages "there is no g++" g++
  if ! command -v bazel >/dev/null && ! command -v bazelisk >/dev/null; then
    need_packages "there is no Bazel on PATH (bazelisk or bazel)" bazel-bootstrap bazel-rules-java
    hash -r
  fi
  bazel=$(command -v bazel || command -v bazelisk)
  bazel_version=$("$bazel" --version 2>/dev/null | awk '{ print $2 }')
  # Debian's Bazel does not know its version; its Java rules are a package of their own.
  if [ "$bazel_version" = no_version ] && [ ! -d /usr/share/bazel/rules/java ]; then
    need_packages "Debian's Bazel lacks its Java rules" bazel-rules-java
  fi
}

case ${TF_NEED_CUDA:-0} in
  0 | 1) ;;
  *) die "expected TF_NEED_CUDA to be 0 or 1. Received: TF_NEED_CUDA=$TF_NEED_CUDA." ;;
esac

find_bazel
find_python
pins=$("$python" $VERSIONS pins) || exit
home=$(cd ~ 2>/dev/null && [ -w . ] && pwd || true)
stamp=$({
  cat configure.sh build_deps/configure*.py build_deps/highway.py "$REQUIREMENTS"
  printf '%s\n' "$pins" "${HIGHWAY_INCLUDE:-}" "$PWD" "$python" "$("$python" --version)" "$bazel" "$bazel_version" \
    "${home:+writable home}" "${TF_OPTIM_PYBIND11_INCLUDE:-}" \
    "${TF_NEED_CUDA:-0}" "${CUDA_HOME:-}" "${TF_CUDA_COMPUTE_CAPABILITIES:-}" "$(command -v nvcc || true)"
} | sha256sum | cut -d' ' -f1)
tensorflow=$(sed -n 's/^# tensorflow: //p' "$BAZELRC" 2>/dev/null || true)
if grep -qsx "# stamp: $stamp" "$BAZELRC" && [ -d "$tensorflow" ]; then
  say "nothing to do: $BAZELRC is up to date"
  exit 0
fi

if [ -z "${TF_OPTIM_PYTHON:-}" ]; then
  say "installing TensorFlow $("$python" $VERSIONS chosen) and $REQUIREMENTS into $("$python" -c 'import sys; print(sys.prefix)')"
  "$python" -m pip install --quiet --disable-pip-version-check --no-input -r "$REQUIREMENTS" -r <(printf '%s\n' "$pins")
fi
say "asking TensorFlow for its flags"
# TensorFlow talks on stderr even when all is well: shown only when something is wrong.
talk=$("$python" build_deps/configure.py --output "$BAZELRC" --stamp "$stamp" \
  --bazel-version "$bazel_version" ${home:+--home-is-writable} 2>&1) || {
  printf '%s\n' "$talk" >&2
  exit 1
}
config=
[ "${TF_NEED_CUDA:-0}" = 0 ] || config=" --config=cuda"
say "done; now: bazel run$config //:demo, or bazel test$config //..."
