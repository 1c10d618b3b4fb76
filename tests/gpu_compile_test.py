"""nvcc compiles the GPU kernels: one rule of each shape, for one architecture."""

import pytest

from tests import gpu_build

# Elementwise; means over rows; means over the variable; what all rules share.
SHAPES = ("adagrad", "row_wise_adagrad", "lamb", "memory", "cuda_sort")


@pytest.mark.parametrize("name", SHAPES)
def test_nvcc_compiles(name, tmp_path):
    nvcc = gpu_build.find_nvcc()
    if nvcc is None:
        pytest.skip("there is no nvcc on this machine")
    sources = [*gpu_build.SOURCES, *gpu_build.make_sources(tmp_path)]
    (source,) = (s for s in sources if s.stem == name)
    quick = ["-gencode=arch=compute_80,code=sm_80", "-Xptxas=-O1"]
    gpu_build.compile_cuda(nvcc, source, tmp_path / "kernel.o", *quick)
    assert (tmp_path / "kernel.o").stat().st_size > 0
