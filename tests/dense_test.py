"""Dense steps through TensorFlow: the list ops, and the optimizers over them."""

import concurrent.futures

import numpy as np
import tensorflow as tf

import tf_optim
from tests import cases, models, numerics
from tests.marks import (
    both_ways,
    every,
    every_case,
    every_dtype,
    kinds,
    richest,
    stock_richest,
)
from tests.raw_ops import ITERATIONS, LEARNING_RATE, Variables
from tf_optim import library

SHAPES = ((), (1,), (17,), (4, 3, 5), (0, 3), (1000, 33))


def draw(case, dtype, shapes=SHAPES, seed=0):
    rng = np.random.default_rng(seed)
    return [numerics.draw(rng, case, shape, dtype) for shape in shapes]


def arrays_of(drawn):
    return [(np.asarray(var), slots) for var, slots, _ in drawn]


@every("case", "dtype")
@both_ways
@every_dtype
@every_case
def test_op_is_the_reference(case, dtype, graph):
    drawn = draw(case, dtype)
    variables = Variables(case, arrays_of(drawn))
    grads = [tf.constant(grad) for _, _, grad in drawn]
    step = tf.function(variables.apply) if graph else variables.apply
    step(grads)
    for i, (var, slots, grad) in enumerate(drawn):
        numerics.assert_step(
            case,
            (np.asarray(var), slots),
            variables.after(i),
            grad,
            LEARNING_RATE,
            ITERATIONS,
        )


@every_dtype
@richest
def test_op_clipping_and_decay_are_per_variable(case, dtype):
    drawn = draw(case, dtype)
    variables = Variables(case, arrays_of(drawn))
    scale = np.linspace(0.3, 2.0, len(drawn))
    decay = np.linspace(0.0, 0.2, len(drawn))
    variables.apply(
        [tf.constant(grad) for _, _, grad in drawn],
        gradient_scale=scale,
        clip_value=0.4,
        weight_decay=decay,
    )
    for i, (var, slots, grad) in enumerate(drawn):
        numerics.assert_step(
            case,
            (np.asarray(var), slots),
            variables.after(i),
            grad,
            LEARNING_RATE,
            ITERATIONS,
            gradient_scale=scale[i],
            clip_value=0.4,
            weight_decay=decay[i],
        )


@every_dtype
@every_case
def test_op_and_native_module_give_the_same_bits(case, dtype):
    """Whatever TensorFlow's threads set (denormals, rounding), kernels decide."""
    drawn = draw(case, dtype, ((70_001,), (3,)), seed=1)
    drawn[0][2][:100] = np.array(1e-30, drawn[0][2].dtype)
    drawn[0][0][50:200] = np.array(1e-39, drawn[0][0].dtype)
    variables = Variables(case, arrays_of(drawn))
    variables.apply([tf.constant(grad) for _, _, grad in drawn])
    var = [np.array(v) for v, _, _ in drawn]
    slots = {s.name: [d[1][s.name].copy() for d in drawn] for s in case.slots}
    library.native().dense_apply(
        rule=case.rule,
        var=var,
        slots=slots,
        grad=[grad for _, _, grad in drawn],
        hyper=case.op_hyper(ITERATIONS),
        flags=case.flags,
        learning_rate=LEARNING_RATE,
        iterations=ITERATIONS,
    )
    for i in range(len(drawn)):
        after, slots_after = variables.after(i)
        assert numerics.same_bits(after, var[i])
        for key, value in slots_after.items():
            assert numerics.same_bits(value, slots[key][i])


@every_dtype
@every_case
def test_ten_steps_of_the_optimizer_are_the_reference(case, dtype):
    """Every single step is held against the reference, from its own start."""
    shapes = ((5, 3), (7,), ())
    variables = models.variables(shapes, dtype)
    optimizer = models.ours(case)
    optimizer.build(variables)
    spec = tf_optim.specs.SPECS[case.name]
    rate = models.rate(case)

    def state(i):
        slots = {
            slot.name: getattr(optimizer, slot.attribute)[i].numpy()
            for slot in spec.slots
            if getattr(optimizer, slot.attribute, None)
        }
        return variables[i].numpy(), slots

    steps = models.gradients(10, shapes, dtype)
    for iterations, grads in enumerate(steps):
        before = [state(i) for i in range(len(shapes))]
        assert set(before[0][1]) == {slot.name for slot in case.slots}
        optimizer.apply_gradients(zip(grads, variables, strict=True))
        for i, grad in enumerate(grads):
            numerics.assert_step(
                case, before[i], state(i), grad.numpy(), rate, iterations
            )


@every_case
def test_a_step_is_one_op(case):
    """However many variables there are; no stock arithmetic beside it."""
    variables = models.variables(((3, 2),) * 12)
    optimizer = models.ours(case, clipvalue=0.5, weight_decay=0.1)
    optimizer.build(variables)

    @tf.function
    def step(grads):
        optimizer.apply_gradients(zip(grads, variables, strict=True))

    graph = step.get_concrete_function(models.gradients(1, ((3, 2),) * 12)[0]).graph
    definition = graph.as_graph_def()
    nodes = list(definition.node)
    for function in definition.library.function:
        nodes += function.node_def
    types = [node.op for node in nodes]
    assert types.count(f"TfOptim>BundleApply{case.rule}") == 1
    assert not {"Sqrt", "Rsqrt", "AssignSubVariableOp"} & set(types)


@richest
def test_mixed_dtypes_in_one_step(case):
    dtypes = ("float32", "bfloat16", "float64", "float16", "float32")
    mixed = [models.variables(((4,),), d, seed=i)[0] for i, d in enumerate(dtypes)]
    alone = [tf.Variable(v) for v in mixed]
    grads = [
        models.gradients(1, ((4,),), d, seed=i)[0][0] for i, d in enumerate(dtypes)
    ]
    models.ours(case).apply_gradients(zip(grads, mixed, strict=True))
    for grad, variable, together in zip(grads, alone, mixed, strict=True):
        models.ours(case).apply_gradients([(grad, variable)])
        assert numerics.same_bits(variable.numpy(), together.numpy())


@stock_richest
def test_gradient_of_another_float_type_is_cast_as_in_stock(case):
    results = []
    for make in (models.stock, models.ours):
        variables = models.variables(((6,),))
        optimizer = make(case)
        for grads in models.gradients(3, ((6,),), "float16"):
            optimizer.apply_gradients(zip(grads, variables, strict=True))
        results.append(variables[0].numpy())
    np.testing.assert_allclose(results[1], results[0], rtol=1e-5, atol=1e-6)


@both_ways
@kinds
def test_values_read_before_a_step_keep_their_value(case, graph):
    """The update is in place, and yet no reader sees it happen."""
    drawn = draw(case, "float32", ((300_000,),))
    variables = Variables(case, arrays_of(drawn))
    grad = tf.constant(drawn[0][2])

    def read_and_step():
        before = variables.var[0].read_value()
        variables.apply([grad])
        return before, variables.var[0].read_value()

    step = tf.function(read_and_step) if graph else read_and_step
    before, after = step()
    assert np.array_equal(before, drawn[0][0])
    assert np.array_equal(after, variables.var[0]) and not np.array_equal(before, after)


@kinds
def test_steps_in_parallel_do_not_mix(case):
    """use_locking: concurrent steps come one after the other, in some order."""
    drawn = draw(case, "float32", ((200_000,), (10,)))
    variables = Variables(case, arrays_of(drawn))
    grads = [tf.constant(grad) for _, _, grad in drawn]
    steps = 24  # all of them alike, so that their order does not show
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        runs = [pool.submit(variables.apply, grads) for _ in range(steps)]
    assert all(run.exception() is None for run in runs)
    one_by_one = Variables(case, arrays_of(drawn))
    for _ in range(steps):
        one_by_one.apply(grads)
    assert variables.bytes() == one_by_one.bytes()


@every_case
def test_bfloat16_training_converges(case):
    """Slots in 16 bits would stand still: 0.999 is 1 there."""
    variable = tf.Variable([1.0, -1.0], dtype=tf.bfloat16)
    optimizer = models.ours(case, case.optimizer.learning_rate)
    for _ in range(200):
        optimizer.apply_gradients([(tf.cast(variable, tf.float32) * 1.0, variable)])
    assert np.all(np.abs(variable.numpy().astype("float32")) < 0.5)


def test_a_list_of_thousands():
    case = next(case for case in cases.CASES if case.name == "SGD" and not case.slots)
    variables = Variables(case, [(np.float32(i), {}) for i in range(2000)])
    variables.apply([tf.constant(1.0)] * 2000, learning_rate=tf.constant(0.5))
    for i, variable in enumerate(variables.var):
        assert variable.numpy() == i - 0.5
