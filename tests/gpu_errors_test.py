"""What a GPU step does when something is missing: memory, a driver, a right index.

Run like tests/gpu_drivers_test.py: by the emulation here, on a GPU by
tests/gpu_check.py.
"""

import re

import numpy as np
import pytest

from tests import cases, numerics
from tests.gpu_states import ON_GPU, State, gpu, step
from tests.marks import modes, richest

SGD = next(c for c in cases.CASES if c.rule == "SGD" and not c.slots)


def draw_step(case, sparse, count=3):
    """States of a step, and what they are before it."""
    rng = np.random.default_rng(0)
    arrays, states = [], []
    for _ in range(count):
        var, slots, grad = numerics.draw(rng, case, (20, 6), "float32")
        ids = None
        if sparse:
            ids = rng.integers(0, 20, 50)
            grad = rng.normal(size=(50, 6)).astype("float32")
        arrays.append({"var": var, **slots})
        states.append(State(var, slots, grad, ids))
    return states, arrays


def assert_untouched(states, arrays):
    for state, before in zip(states, arrays, strict=True):
        for key, value in state.result().items():
            assert value.tobytes() == before[key].tobytes(), key


def bytes_needed(error):
    return int(re.search(r"Received: (\d+)\.", str(error.value))[1])


@pytest.mark.parametrize("sparse", (None, "lazy", "dense"))
@pytest.mark.parametrize("count", (3, 130))
@richest
def test_a_step_without_memory_has_changed_nothing(case, count, sparse, monkeypatch):
    """Also where it takes several launches: a byte less than all of them need."""
    states, arrays = draw_step(case, sparse, count)
    options = {"mode": sparse} if sparse else {}
    monkeypatch.setattr(gpu, "memory_limit", 0)
    with pytest.raises(MemoryError) as error:
        step(case, states, **options)
    assert_untouched(states, arrays)
    monkeypatch.setattr(gpu, "memory_limit", bytes_needed(error) - 1)
    with pytest.raises(MemoryError):
        step(case, states, **options)
    assert_untouched(states, arrays)
    monkeypatch.setattr(gpu, "memory_limit", bytes_needed(error))
    step(case, states, **options)
    assert states[-1].var.array.tobytes() != arrays[-1]["var"].tobytes()


def test_a_dense_steps_memory_does_not_grow_with_its_variables(monkeypatch):
    needed = []
    monkeypatch.setattr(gpu, "memory_limit", 0)
    for rows in (10, 10_000):
        var, slots, grad = numerics.draw(
            np.random.default_rng(1), SGD, (rows, 6), "float32"
        )
        with pytest.raises(MemoryError) as error:
            step(SGD, [State(var, slots, grad)])
        needed.append(bytes_needed(error))
    assert needed[0] == needed[1]


@modes
def test_a_report_is_its_owners(mode, monkeypatch):
    """A kernel of an earlier owner, late, leaves alone what a later one found."""
    rng = np.random.default_rng(2)
    gpu.report.found = 0

    def wrong_step(generation, index):
        monkeypatch.setattr(gpu, "generation", generation)
        var, slots, grad = numerics.draw(rng, SGD, (4, 3), "float32")
        ids = np.array([0, 1, index, 2])
        step(SGD, [State(var, slots, grad, ids)], mode=mode)
        return gpu.report.found, gpu.report.received

    assert wrong_step(5, 11) == (5, 11)
    assert wrong_step(5, 12) == (5, 11)  # not read yet
    assert wrong_step(4, 13) == (5, 11)
    assert wrong_step(6, 14) == (6, 14)  # the report's next owner
    gpu.report.found = 0
    assert wrong_step(6, 15) == (6, 15)
    gpu.report.found = 0


@pytest.mark.parametrize("count", (60, 61, 600, 1500))
def test_lists_around_short_and_long_tables(count):
    """SGD's tables hold 67 and 566 variables: one, two and several launches."""
    rng = np.random.default_rng(3)
    arrays = [rng.normal(size=3).astype("float32") for _ in range(count)]
    grads = [rng.normal(size=3).astype("float32") for _ in range(count)]
    scale = np.arange(1, count + 1) / 64.0
    states = [State(a, {}, g) for a, g in zip(arrays, grads, strict=True)]
    step(SGD, states, learning_rate=0.5, gradient_scale=scale)
    for i, state in enumerate(states):
        expected = arrays[i] - np.float32(0.5) * (np.float32(scale[i]) * grads[i])
        np.testing.assert_array_equal(state.var.array, expected)


def case_named(name):
    return next(case for case in cases.CASES if case.name == name)


@pytest.mark.skipif(ON_GPU, reason="the emulation counts")
@pytest.mark.parametrize(
    "name, sparse, kernels",
    [
        # The numbers of the step, and the update.
        ("SGD", None, 2),
        ("Adam", None, 2),
        ("RowWiseAdagrad", None, 2),
        # Means over the variable are added up in two more.
        ("Lamb", None, 4),
        # Keys of the ids, beside CUB's sort, and the pieces of long runs.
        ("Adam", "lazy", 4),
        ("Adam", "dense", 4),
    ],
)
def test_a_list_takes_no_more_launches_than_one_variable(name, sparse, kernels):
    options = {"mode": sparse} if sparse else {}
    for count in (1, 26):
        states, _ = draw_step(case_named(name), sparse, count)
        before = gpu.launches()
        step(case_named(name), states, **options)
        assert gpu.launches() - before == kernels


@pytest.mark.parametrize(
    "driver, toolkit, missing",
    [
        (13000, 13000, None),
        (13020, 13000, None),
        (13000, 13020, None),  # one major version
        (12080, 12040, None),
        (12080, 13000, "a driver for CUDA 12.8"),
        (0, 13000, "no driver"),
    ],
)
def test_a_driver_is_new_enough_or_the_error_says_what_is_needed(
    driver, toolkit, missing
):
    message = gpu.check_driver(driver, toolkit)
    if missing is None:
        assert message == ""
    else:
        assert "need a driver for CUDA 13.0 or newer" in message
        assert f"Received: {missing}." in message


@pytest.mark.parametrize(
    "capability, built, fits",
    [
        (80, [80, 90], True),
        (86, [80, 90], True),
        (90, [80, 90], True),
        (120, [80, 90], True),  # by PTX of the newest
        (75, [80, 90], False),
        (75, [75, 80, 90], True),
        (80, [75, 90], False),  # PTX of 9.0 is too new, code of 7.5 another's
    ],
)
def test_a_card_is_supported_or_the_error_names_its_capability(capability, built, fits):
    message = gpu.check_capability(capability, built)
    if fits:
        assert message == ""
    else:
        name = f"{capability // 10}.{capability % 10}"
        assert f"Received: a GPU of {name}." in message
        assert f"TF_CUDA_COMPUTE_CAPABILITIES={name}" in message
