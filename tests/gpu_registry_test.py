"""Every kernel that the library has for CPUs it has for GPUs too."""

import pytest
from tensorflow.core.framework import types_pb2
from tensorflow.python.framework import kernels, op_def_registry

from tests import cases
from tf_optim import library

OPS = ["TfOptim>CheckIndices"] + [
    f"TfOptim>Resource{sparse}Apply{rule}"
    for rule in sorted({case.rule for case in cases.CASES})
    for sparse in ("", "Sparse")
]


def registered(op):
    """`{device: {its kernels' type constraints}}` of an op."""
    library.ops()
    found = {}
    for kernel in kernels.get_registered_kernels_for_op(op).kernel:
        types = [
            (c.name, types_pb2.DataType.Name(t))
            for c in kernel.constraint
            for t in c.allowed_values.list.type
        ]
        found.setdefault(kernel.device_type, set()).add(tuple(sorted(types)))
    return found


@pytest.mark.parametrize("op", OPS)
def test_a_gpu_has_every_kernel_that_a_cpu_has(op):
    if not library.build_info()["cuda"]:
        pytest.skip("built without --config=cuda")
    found = registered(op)
    assert found["CPU"]
    assert found["GPU"] == found["CPU"]


@pytest.mark.parametrize("op", OPS)
def test_a_build_without_cuda_has_no_gpu_kernels(op):
    if library.build_info()["cuda"]:
        pytest.skip("built with --config=cuda")
    assert set(registered(op)) & {"CPU", "GPU"} == {"CPU"}


@pytest.mark.parametrize("op", OPS[1:])
def test_a_step_waits_for_no_number_of_the_device(op):
    """Only handles are read on the host."""
    if not library.build_info()["cuda"]:
        pytest.skip("built without --config=cuda")
    library.ops()
    inputs = op_def_registry.get(op).input_arg
    handles = {each.name for each in inputs if each.type == types_pb2.DT_RESOURCE}
    assert "var" in handles
    for kernel in kernels.get_registered_kernels_for_op(op).kernel:
        if kernel.device_type == "GPU":
            assert set(kernel.host_memory_arg) <= handles
