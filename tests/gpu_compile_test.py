"""nvcc compiles the GPU kernels: one rule of each shape, for one architecture."""

import re

import pytest

from tests import gpu_build

# Means over the variable; what all rules share.
SHAPES = ("lamb", "memory", "cuda_sort")


def compile_rule(name, folder, *flags):
    """What nvcc says when it compiles the .cu file of that name."""
    nvcc = gpu_build.find_nvcc()
    if nvcc is None:
        pytest.skip("there is no nvcc on this machine")
    sources = [*gpu_build.SOURCES, *gpu_build.make_sources(folder)]
    (source,) = (s for s in sources if s.stem == name)
    said = gpu_build.compile_cuda(nvcc, source, folder / "kernel.o", *flags)
    assert (folder / "kernel.o").stat().st_size > 0
    return said


@pytest.mark.parametrize("name", SHAPES)
def test_nvcc_compiles(name, tmp_path):
    compile_rule(name, tmp_path, gpu_build.architecture("80"), "-Xptxas=-O0")


@pytest.mark.parametrize("name", ("adam", "row_wise_adagrad"))
def test_no_kernel_spills_registers(name, tmp_path):
    """Elementwise rules and those with means over rows, as they are shipped."""
    said = compile_rule(name, tmp_path, gpu_build.architecture("90"), "-Xptxas=-v")
    kernels = re.findall(
        r"Compiling entry function '(\w+)'.*?(\d+) bytes spill stores.*?"
        r"Used (\d+) registers",
        said,
        re.S,
    )
    assert len(kernels) >= 4 * 3  # dtypes; dense, lazy and all rows
    assert [kernel for kernel, spilled, _ in kernels if int(spilled)] == []
    # Two blocks of 256 threads fit into a multiprocessor.
    assert max(int(registers) for _, _, registers in kernels) <= 128
