"""What the built libraries show, ask for and hold."""

import re
import shutil
import subprocess

import pytest

from tf_optim import library

LIBRARIES = ["libtf_optim_cpu.so", "_native.so", "_tf_optim_ops.so", "_tf_optim_xla.so"]
# glibc 2.28, and what GCC 8 brings: manylinux_2_28.
NEWEST = {"GLIBC": (2, 28), "GLIBCXX": (3, 4, 25), "CXXABI": (1, 3, 11)}


def holds_cuda(name):
    return name == "_tf_optim_ops.so" and library.build_info()["cuda"]


def symbols(name, *options):
    """Lines of `nm` about a library's dynamic symbols."""
    if shutil.which("nm") is None:
        pytest.skip("nm is not installed")
    command = ["nm", "--dynamic", "--with-symbol-versions", "--demangle", *options]
    return subprocess.run(
        [*command, library.find(name)], capture_output=True, text=True, check=True
    ).stdout.splitlines()


@pytest.mark.parametrize("name", LIBRARIES)
def test_runs_on_older_systems(name):
    """cc/compat has what newer ones would be asked for."""
    if holds_cuda(name):
        pytest.skip("the CUDA runtime in it asks for the glibc of the build's machine")
    lines = symbols(name, "--undefined-only")
    asked = [
        (match[1], tuple(map(int, match[2].split("."))), line.split()[-1])
        for line in lines
        for match in [re.search(r"@(GLIBC|GLIBCXX|CXXABI)_([\d.]+)$", line)]
        if match
    ]
    assert len(asked) > 10
    assert [each for each in asked if each[1] > NEWEST[each[0]]] == []


def test_kernels_show_what_the_others_call_and_no_more():
    lines = symbols("libtf_optim_cpu.so", "--defined-only")
    ours = {
        match[1]
        for line in lines
        for match in [re.search(r" [TWVBDRu] (tf_optim::.*?)(\(|@|$)", line)]
        if match
    }
    assert ours == {
        "tf_optim::ChosenIsa",
        "tf_optim::FindKernelsOfAverages",
        "tf_optim::FindKernelsOfNorms",
        "tf_optim::FindPackKernels",
        "tf_optim::FindSteps",
        "tf_optim::IsaName",
        "tf_optim::IsaNamed",
        "tf_optim::TakeStep",
        "tf_optim::UsableIsas",
    }


@pytest.mark.parametrize("name", LIBRARIES[1:])
def test_kernels_are_in_their_library_alone(name):
    """The wheel would hold them three times."""
    if not holds_cuda(name):
        sizes = [library.find(each).stat().st_size for each in (LIBRARIES[0], name)]
        assert sizes[1] < sizes[0]
    asked = symbols(name, "--undefined-only")
    assert any("tf_optim::ChosenIsa" in line for line in asked)
