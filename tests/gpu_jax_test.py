"""XLA's calls of the CUDA drivers on a GPU, from JAX, whose XLA is TensorFlow's.

Here XLA lends the stream and the memory that tests/gpu_xla_test.py has to do without:
the function that it calls, cc/xla/gpu_call.cc, is the same, and so are the frames.
Needs a GPU, nvcc and JAX, and no TensorFlow (tests/gpu_check.py).
"""

import ctypes
import os

import numpy as np
import pytest

from tests import cases, gpu_build, numerics
from tests.gpu_states import ITERATIONS, LEARNING_RATE, ON_GPU, gpu
from tests.marks import modes, richest

if not ON_GPU:
    pytest.skip("needs a GPU: see tests/gpu_check.py", allow_module_level=True)
# Not all of the memory at the first array: others run beside.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
jax = pytest.importorskip("jax")
jax.config.update("jax_enable_x64", True)
TARGET = "tf_optim_gpu_step"
ADAM = next(c for c in cases.CASES if c.rule == "Adam")
SHAPES = ((7,), (40, 64), (8193,), (3, 130), (2, 4 * 256))


@pytest.fixture(scope="module", autouse=True)
def handler(tmp_path_factory):
    headers = jax.ffi.include_dir()
    library = ctypes.CDLL(
        gpu_build.build_for_jax(tmp_path_factory.mktemp("x"), headers)
    )
    library.tfo_jax_gpu_handler.restype = ctypes.c_void_p
    library.tfo_jax_gpu_handler.argtypes = [ctypes.c_void_p]
    pointer = library.tfo_jax_gpu_handler(gpu.cuda_kernels)
    new_capsule = ctypes.pythonapi.PyCapsule_New
    new_capsule.restype = ctypes.py_object
    new_capsule.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
    capsule = new_capsule(pointer, None, None)
    jax.ffi.register_ffi_target(TARGET, capsule, platform="CUDA")
    return library


def step_of(case, *, mode=None, **attributes):
    """A function of `(streams, grads, ids)`, lists per variable, to the streams after.

    What CallGpuSteps of cc/xla/gpu_step.cc makes of a step.
    """
    slots = [slot.name for slot in case.slots]
    mask = gpu.variant(case.rule, slots, {}) & 63
    hyper = case.op_hyper(ITERATIONS)
    names = gpu.rules[case.rule]["hyper"]
    numbers = [LEARNING_RATE, 0.9, *(hyper[name] for name in names)]

    def step(streams, grads, ids):
        count, width = len(streams), len(streams[0])
        flat = [array for of_one in streams for array in of_one]
        storage = ("float32", "float64", "float16", "bfloat16").index(
            str(flat[0].dtype)
        )
        others = [
            *grads,
            *ids,
            np.array([ITERATIONS], "int64"),
            np.full(count, 0.375),
            np.full(count, 0.05),
            np.array(numbers),
        ]
        call = jax.ffi.ffi_call(
            TARGET,
            [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in flat],
            input_output_aliases={i: i for i in range(len(flat))},
        )
        integers = {
            "lazy": mode == "lazy",
            "slots": mask,
            "sparse": mode is not None,
            "storage": storage,
            "variant": gpu.variant(case.rule, slots, case.flags),
        }
        after = call(
            *flat,
            *others,
            **{"rule": case.rule}
            | {key: np.int64(value) for key, value in integers.items()}
            | attributes,
        )
        return [list(after[i * width : (i + 1) * width]) for i in range(count)]

    return jax.jit(step, donate_argnums=0)


TAIL = {"clip_value": 0.9, "weight_decay": 0.05, "gradient_scale": 0.375}


def draw(case, shapes, dtype="float32", seed=0):
    rng = np.random.default_rng(seed)
    return [numerics.draw(rng, case, shape, dtype) for shape in shapes]


def streams_of(case, arrays):
    """On the device, and there alone: the step may have their memory."""
    return [
        [jax.numpy.array(a) for a in (var, *(slots[s.name] for s in case.slots))]
        for var, slots, _ in arrays
    ]


def assert_after(case, streams, arrays, rows=None, summed=None):
    for i, (after, (var, slots, grad)) in enumerate(zip(streams, arrays, strict=True)):
        names = [slot.name for slot in case.slots]
        new_var, *new_slots = map(np.asarray, after)
        named = slice(None) if rows is None else rows[i]
        numerics.assert_step(
            case,
            (var[named], {name: slots[name][named] for name in names}),
            (
                new_var[named],
                {k: v[named] for k, v in zip(names, new_slots, strict=True)},
            ),
            grad if summed is None else summed[i],
            LEARNING_RATE,
            ITERATIONS,
            **TAIL,
        )


@richest
def test_dense(case):
    arrays = draw(case, SHAPES)
    grads = [grad for *_, grad in arrays]
    after = step_of(case)(streams_of(case, arrays), grads, [])
    assert_after(case, after, arrays)


@pytest.mark.parametrize("dtype", cases.DTYPES)
def test_dtypes(dtype):
    arrays = draw(ADAM, SHAPES, dtype)
    grads = [grad for *_, grad in arrays]
    after = step_of(ADAM)(streams_of(ADAM, arrays), grads, [])
    assert_after(ADAM, after, arrays)


@modes
@richest
def test_sparse(case, mode):
    """Workspace is XLA's: several tables, a long run, ids outside."""
    rng = np.random.default_rng(4)
    tables = [(40, 8, 25), (3, 5, 300), (70, 1, 50), (20, 64, 2), (9, 33, 9)]
    arrays, ids, rows, sums = [], [], [], []
    for n, width, count in tables:
        var, slots, _ = numerics.draw(rng, case, (n, width), "float32")
        of_one = rng.integers(0, n, count)
        of_one[0] = n
        grad = (rng.integers(-8, 9, size=(count, width)) / 4.0).astype("float32")
        named, summed = numerics.reference.sum_duplicates(grad[1:], of_one[1:])
        if mode == "dense":
            whole = np.zeros(var.shape)
            whole[named] = summed
            named, summed = np.arange(n), whole
        arrays.append((var, slots, grad))
        ids.append(of_one)
        rows.append(named)
        sums.append(summed)
    grads = [grad for *_, grad in arrays]
    after = step_of(case, mode=mode)(streams_of(case, arrays), grads, ids)
    assert_after(case, after, arrays, rows, sums)
    for of_one, (var, _, _), named in zip(after, arrays, rows, strict=True):
        others = np.setdiff1d(np.arange(len(var)), named)
        assert np.asarray(of_one[0])[others].tobytes() == var[others].tobytes()


def test_a_step_is_in_the_memory_of_its_variables():
    arrays = draw(ADAM, SHAPES)
    streams = streams_of(ADAM, arrays)

    def addresses(streams):
        return [a.unsafe_buffer_pointer() for of_one in streams for a in of_one]

    before = addresses(streams)
    after = step_of(ADAM)(streams, [grad for *_, grad in arrays], [])
    # JAX may lend a slot's memory to another array of its shape.
    assert sorted(addresses(after)) == sorted(before)


def test_many_steps_in_a_row_are_those_of_the_drivers():
    """In order on XLA's stream, with gradients that are computed before each."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(6)
    table = rng.normal(size=(500, 16)).astype("float32")
    ids = rng.integers(0, 500, (50, 2000))
    steps = step_of(ADAM, mode="lazy")
    zeros = [np.zeros_like(table) for _ in ADAM.slots]
    streams = [[jax.device_put(a) for a in (table, *zeros)]]

    @jax.jit
    def gradient(var, named):
        return var[named] * 2 + 1

    for named in ids:
        streams = steps(streams, [gradient(streams[0][0], named)], [named])
    received = [np.asarray(array) for array in streams[0]]

    on_device = [torch.from_numpy(a.copy()).cuda() for a in (table, *zeros)]
    hyper = ADAM.op_hyper(ITERATIONS)

    def number(value, dtype=torch.float64):
        return torch.tensor(value, dtype=dtype, device="cuda")

    for named in ids:
        named = torch.from_numpy(named).cuda()
        gpu.apply(
            ADAM.rule,
            [on_device[0]],
            {s.name: [a] for s, a in zip(ADAM.slots, on_device[1:], strict=True)},
            [on_device[0][named] * 2 + 1],
            {name: number(value) for name, value in hyper.items()},
            number(LEARNING_RATE),
            number(ITERATIONS, torch.int64),
            number(0.9),
            indices=[named],
            flags=ADAM.flags,
            gradient_scale=number([0.375]),
            weight_decay=number([0.05]),
            cuda=True,
        )
        torch.cuda.synchronize()
    for left, right in zip(received, on_device, strict=True):
        np.testing.assert_array_equal(left, right.cpu().numpy())


def test_a_rule_that_there_is_not_is_an_error_in_words():
    arrays = draw(ADAM, SHAPES[:1])
    step = step_of(ADAM, rule="Atom")
    with pytest.raises(Exception, match="This build has no GPU kernels of Atom"):
        jax.block_until_ready(step(streams_of(ADAM, arrays), [arrays[0][2]], []))
