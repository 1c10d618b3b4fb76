"""Which bits a step has on a GPU: those of the same drivers on a CPU."""

import numpy as np
import pytest

from tests import numerics
from tests.gpu_states import ITERATIONS, LEARNING_RATE, ON_GPU, State, gpu, step
from tests.marks import every_case, every_dtype

if not ON_GPU:
    pytest.skip("needs a GPU: see tests/gpu_check.py", allow_module_level=True)


def step_on_the_host(case, var, slots, grad, ids):
    """The same step by the emulation, whose arithmetic is a CPU's."""
    var, grad = var.copy(), grad.copy()
    slots = {key: value.copy() for key, value in slots.items()}
    gpu.apply(
        case.rule,
        [var],
        {key: [value] for key, value in slots.items()},
        [grad],
        {k: np.array(v, "float64") for k, v in case.op_hyper(ITERATIONS).items()},
        np.array(LEARNING_RATE),
        np.array(ITERATIONS, "int64"),
        np.array(0.0),
        indices=None if ids is None else [ids],
        flags=case.flags,
        cuda=False,
    )
    return {"var": var} | slots


@pytest.mark.parametrize("named", (False, True), ids=("dense", "rows"))
@every_dtype
@every_case
def test_the_bits_are_those_of_a_cpu(case, dtype, named):
    """Runs are shorter than a piece, so sums have one order."""
    if case.rule == "Ftrl" and case.hyper["learning_rate_power"] != -0.5:
        pytest.skip("CUDA's power of a float is another one")
    if case.rule == "Adopt" and dtype == "float64":
        pytest.skip("CUDA's power of a double, which is in a coefficient, is another")
    rng = np.random.default_rng(1)
    var, slots, grad = numerics.draw(rng, case, (300, 64), dtype)
    ids = None
    if named:
        ids = rng.integers(0, 300, 900)
        grad = rng.normal(size=(900, 64)).astype(numerics.numpy_dtype(dtype))
    state = State(var, slots, grad, ids)
    step(case, [state])
    expected = step_on_the_host(case, var, slots, grad, ids)
    for key, value in state.result().items():
        assert numerics.same_bits(value, expected[key]), key
