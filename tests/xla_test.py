"""Steps under tf.function(jit_compile=True) are the steps outside of XLA."""

import numpy as np
import pytest
import tensorflow as tf

from tests import cases, models, numerics
from tests.marks import (
    every,
    every_case,
    every_dtype,
    every_index_dtype,
    kinds,
    modes,
    richest,
    xla_calls,
)
from tests.raw_ops import Variables
from tf_optim import library


@pytest.fixture
def step_of(request, monkeypatch):
    """Who takes the step: the CPU drivers, or XLA itself, as on GPUs."""
    monkeypatch.setenv("TF_OPTIM_XLA_STEP", request.param)
    return request.param


both_steps = pytest.mark.parametrize(
    "step_of", ["", "portable"], ids=["drivers", "portable"], indirect=True
)

SHAPES = ((), (1,), (17,), (4, 3, 5), (0, 3))

# (shape of the variable, ids of its gradient).
# XLA takes its time to compile a sort, so there are few.
TABLES = (
    ((10, 5), [3, 3, 8, 3, 0, 8, 3]),  # repeated, unsorted
    ((5, 4), []),  # none
)
MORE_TABLES = (
    ((6,), [5, 1, 5]),  # rows of one number
    ((7, 2, 3), [6, 0, 6, 6, 2]),  # rows that are matrices
    ((4, 1), [2]),  # one
    ((1, 5), [0, 0, 0]),  # a table of one row
    ((33, 2), list(range(32, -1, -1))),  # all of them
    ((8, 0), [1, 2]),  # rows of nothing
    ((0, 3), []),  # no rows
    ((10, 4), [7, 2, 9, 0]),  # unique
)


def assert_close(case, jit, plain):
    """Equal but for the order of a few roundings.

    XLA contracts to FMA and may divide by multiplying, which moves a result by a
    few units in the last place of its largest term. Terms are of about 1 in these
    tests: hence atol, for results near zero. A result stored in 16 bits may then
    be rounded to the neighbour: one unit of these. A rule that subtracts larger
    terms from each other is granted twice as much.
    """
    for left, right in zip(jit, plain, strict=True):
        assert left.dtype == right.dtype
        tolerance = 1e-6 if left.dtype != np.float64 else 1e-14
        if left.dtype.itemsize == 2:
            tolerance = numerics.unit(left.dtype)
        if case.optimizer.cancelling:
            tolerance *= 2
        np.testing.assert_allclose(
            left.astype("float64"),
            right.astype("float64"),
            rtol=tolerance,
            atol=tolerance / 2,
        )


def values(variables):
    lists = [variables.var, *variables.slots.values()]
    return [v.numpy() for list_ in lists for v in list_]


def both(case, arrays, step):
    """The variables after `step(variables)` under jit, and outside of it."""
    results = []
    for jit in (True, False):
        variables = Variables(case, arrays)
        tf.function(lambda v=variables: step(v), jit_compile=jit)()
        results.append(values(variables))
    return results


def draw(case, dtype, shapes, seed=0):
    rng = np.random.default_rng(seed)
    return [numerics.draw(rng, case, shape, dtype) for shape in shapes]


def draw_tables(case, dtype, tables, seed=0):
    """Arrays, gradients and ids."""
    drawn = draw(case, dtype, [shape for shape, _ in tables], seed)
    rng = np.random.default_rng(seed + 1)
    ids = [ids for _, ids in tables]
    grads = [
        rng.normal(size=(len(i), *shape[1:])).astype(numerics.numpy_dtype(dtype))
        for shape, i in tables
    ]
    return [d[:2] for d in drawn], grads, ids


def arrays_of(drawn):
    return [(np.asarray(var), slots) for var, slots, _ in drawn]


@every("case", "step_of")
@every_dtype
@both_steps
@every_case
def test_dense(step_of, case, dtype):
    drawn = draw(case, dtype, SHAPES)
    grads = [tf.constant(grad) for _, _, grad in drawn]
    assert_close(case, *both(case, arrays_of(drawn), lambda v: v.apply(grads)))


def tail(count):
    return {
        "gradient_scale": np.linspace(0.3, 2.0, count),
        "clip_value": 0.4,
        "weight_decay": np.linspace(0.0, 0.2, count),
    }


@every_dtype
@both_steps
@richest
def test_dense_tail(step_of, case, dtype):
    drawn = draw(case, dtype, SHAPES)
    grads = [tf.constant(grad) for _, _, grad in drawn]
    changed = tail(len(SHAPES))
    results = both(case, arrays_of(drawn), lambda v: v.apply(grads, **changed))
    assert_close(case, *results)
    without = Variables(case, arrays_of(drawn))
    without.apply(grads)
    assert not np.allclose(
        values(without)[2].astype("float64"), results[0][2].astype("float64")
    )


def assert_sparse(case, dtype, tables, mode, index_dtype, **changed):
    arrays, grads, ids = draw_tables(case, dtype, tables)
    grads = [tf.constant(grad) for grad in grads]
    ids = [tf.constant(i, index_dtype) for i in ids]

    def step(variables):
        variables.sparse_apply(grads, ids, mode=mode, **changed)

    assert_close(case, *both(case, arrays, step))


@every_dtype
@both_steps
@every_case
def test_sparse_lazy(step_of, case, dtype):
    assert_sparse(case, dtype, TABLES, "lazy", "int64")


@both_steps
@every_case
def test_sparse_dense_mode(step_of, case):
    assert_sparse(case, "float32", TABLES, "dense", "int32")


@every_index_dtype
@modes
@both_steps
@kinds
def test_sparse_more_shapes(step_of, case, mode, index_dtype):
    assert_sparse(case, "float32", MORE_TABLES, mode, index_dtype)


@modes
@every_dtype
@both_steps
@richest
def test_sparse_tail(step_of, case, dtype, mode):
    """Scale and clip see the sum of a row's gradients."""
    assert_sparse(case, dtype, TABLES, mode, "int32", **tail(len(TABLES)))


@every_index_dtype
@modes
@both_steps
@kinds
def test_ids_out_of_range_are_dropped(step_of, case, mode, index_dtype):
    """The others are applied, and nothing else is written."""
    tables = [((10, 4), [3, 3, 8]), ((10, 4), [9, 0]), ((1, 2), [0])]
    arrays, grads, ids = draw_tables(case, "float32", tables)
    wrong = [-1, 10, np.iinfo(index_dtype).max, -9, np.iinfo(index_dtype).min]
    extended, extended_grads = [], []
    for i, grad in zip(ids, grads, strict=True):  # wrong ids around every right one
        mixed, mixed_grads = list(wrong), [np.ones_like(grad[:1])] * len(wrong)
        for id_, row in zip(i, grad, strict=True):
            mixed += [id_, -1, 10]
            mixed_grads += [row[None], row[None], row[None]]
        extended.append(tf.constant(np.array(mixed, index_dtype)))
        extended_grads.append(tf.constant(np.concatenate(mixed_grads)))
    jit, plain = Variables(case, arrays), Variables(case, arrays)

    @tf.function(jit_compile=True)
    def step():
        jit.sparse_apply(extended_grads, extended, mode=mode)

    step()
    plain.sparse_apply(
        [tf.constant(g) for g in grads],
        [tf.constant(i, index_dtype) for i in ids],
        mode=mode,
    )
    assert_close(case, values(jit), values(plain))
    if mode == "lazy":
        for i, (var, slots) in enumerate(arrays):
            untouched = np.setdiff1d(np.arange(len(var)), ids[i])
            after, slots_after = jit.after(i)
            assert numerics.same_bits(after[untouched], var[untouched])
            for key, value in slots.items():
                assert numerics.same_bits(slots_after[key][untouched], value[untouched])


@xla_calls
@both_steps
def test_who_takes_the_step(step_of):
    case = cases.RICHEST[0]
    arrays, grads, ids = draw_tables(case, "float32", [((5, 2), [3, 3])])
    variables = Variables(case, arrays)

    @tf.function(jit_compile=True)
    def step():
        variables.sparse_apply([tf.constant(grads[0])], [tf.constant(ids[0])])

    computation = step.experimental_get_compiler_ir()(stage="hlo")
    assert ("tf_optim_step_" in computation) == (step_of != "portable")


@both_steps
@kinds
def test_only_ids_out_of_range_change_nothing(step_of, case):
    arrays, grads, _ = draw_tables(case, "float32", [((3, 2), [0] * 4)])
    variables = Variables(case, arrays)
    before = variables.bytes()

    @tf.function(jit_compile=True)
    def step():
        variables.sparse_apply([tf.constant(grads[0])], [tf.constant([-1, 3, 3, 7])])

    step()
    assert variables.bytes() == before


@both_steps
@kinds
def test_number_of_ids_changes_from_step_to_step(step_of, case):
    """Shapes are static in XLA: each count is compiled when it comes."""
    arrays, _, _ = draw_tables(case, "float32", [((9, 2), [])])
    jit, plain = Variables(case, arrays), Variables(case, arrays)
    signature = [tf.TensorSpec([None, 2]), tf.TensorSpec([None], tf.int64)]

    @tf.function(input_signature=signature, jit_compile=True)
    def step(grad, ids):
        jit.sparse_apply([grad], [ids])

    for ids in ([4, 1, 4], [], [8]):
        grad = tf.ones([len(ids), 2])
        step(grad, tf.constant(ids, tf.int64))
        plain.sparse_apply([grad], [tf.constant(ids, tf.int64)])
        assert_close(case, values(jit), values(plain))


@kinds
@pytest.mark.parametrize(
    ("shape", "ids"),
    [((1, 2), 5), ((5, 1), 5), ((3, 2), 5)],
    ids=["one row", "narrow", "fewer"],
)
def test_wrong_gradient_shape_that_only_xla_sees(case, shape, ids):
    """XLA would stretch a dimension of 1."""
    arrays, _, _ = draw_tables(case, "float32", [((9, 2), [])])
    variables = Variables(case, arrays)
    before = variables.bytes()
    unknown = tf.TensorSpec(None, tf.float32)

    @tf.function(
        input_signature=[unknown, tf.TensorSpec([None], tf.int32)], jit_compile=True
    )
    def sparse(grad, ids):
        variables.sparse_apply([grad], [ids])

    @tf.function(input_signature=[unknown], jit_compile=True)
    def dense(grad):
        variables.apply([grad])

    message = r"grad\[0\] must have shape \[{}\]. Received: \[{}\]"
    received = ",".join(map(str, shape))
    with pytest.raises(tf.errors.InvalidArgumentError) as error:
        sparse(tf.ones(shape), tf.range(ids))
    error.match(message.format("5,2", received))
    with pytest.raises(tf.errors.InvalidArgumentError) as error:
        dense(tf.ones(shape))
    error.match(message.format("9,2", received))
    assert variables.bytes() == before


@both_steps
def test_repeated_ids_are_summed_in_their_order(step_of):
    """So the bits do not depend on how XLA sorts, on a CPU."""
    (case,) = (c for c in cases.CASES if str(c) == "SGD-plain")
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 4, size=50)
    grad = rng.normal(size=(50, 3)).astype("float32")

    def summed(ids, grad):
        """What a step of rate 1 takes from zeros: sums, and no other rounding."""
        variables = Variables(case, [(np.zeros((4, 3), "float32"), {})])

        @tf.function(jit_compile=True)
        def step():
            rate = tf.constant(1.0, tf.float64)
            variables.sparse_apply([grad], [tf.constant(ids)], learning_rate=rate)

        step()
        return -variables.after(0)[0]

    expected = np.zeros((4, 3), "float32")
    for id_, row in zip(ids, grad, strict=True):
        expected[id_] += row
    assert numerics.same_bits(summed(ids, grad), expected)
    by_row = np.argsort(ids, kind="stable")
    assert numerics.same_bits(summed(ids[by_row], grad[by_row]), expected)
    # Another order within a row is another sum: the bits do show an order.
    assert not numerics.same_bits(summed(ids[::-1], grad[::-1]), expected)


# --- without the library


@pytest.fixture
def no_xla_library(monkeypatch):
    library.ops()
    monkeypatch.setattr(library, "xla_error", lambda: "no such file")


@kinds
def test_library_that_cannot_be_loaded(case, no_xla_library):
    var_list = models.variables(((3, 2),))
    optimizer = models.ours(case)
    optimizer.build(var_list)
    before = var_list[0].numpy()

    def step():
        optimizer.apply_gradients([(tf.ones([3, 2]), var_list[0])])

    inner = tf.function(step)
    for function in (step, inner, lambda: tf.cond(tf.constant(True), inner, inner)):
        message = "needs tf_optim's XLA kernels.*jit_compile=False.*no such file"
        with pytest.raises(RuntimeError, match=message):
            tf.function(function, jit_compile=True)()
        assert np.array_equal(var_list[0], before)
    step()
    tf.function(step)()
    assert int(optimizer.iterations) == 2
    assert not np.array_equal(var_list[0], before)


def test_library_that_is_not_built(monkeypatch, tmp_path):
    monkeypatch.setattr(library, "search_path", lambda: [tmp_path])
    assert "_tf_optim_xla.so" in library.xla_error.__wrapped__()
    broken = tmp_path / library.XLA_LIBRARY
    broken.write_text("no library")
    assert "_tf_optim_xla.so" in library.xla_error.__wrapped__()
