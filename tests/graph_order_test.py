"""Reads, steps and variables of a graph whose ops have bundles: in program order."""

import pytest
import tensorflow as tf

import tf_optim
from tests.bundles_test import COUNT, SHAPE, assert_after, built, many, once, seen
from tests.marks import both_flavours

pytestmark = both_flavours


def in_one_function(variables, optimizer):
    @tf.function
    def program():
        reads = [seen(variables, optimizer)]
        for _ in range(2):
            once(variables, optimizer)
            reads.append(seen(variables, optimizer))
        return reads

    return program()


def in_functions_of_functions(variables, optimizer):
    @tf.function
    def step():
        once(variables, optimizer)

    @tf.function
    def program():
        reads = [seen(variables, optimizer)]
        step()
        reads.append(seen(variables, optimizer))
        tf.cond(tf.constant(True), lambda: step() or 1, lambda: 1)
        return [*reads, seen(variables, optimizer)]

    return program()


def in_a_loop(variables, optimizer):
    @tf.function
    def program():
        reads = tf.TensorArray(tf.float32, 3)
        for i in tf.range(3):
            reads = reads.write(i, seen(variables, optimizer))
            once(variables, optimizer)
        return reads.stack()

    return list(program())


@pytest.mark.parametrize(
    "program", [in_one_function, in_functions_of_functions, in_a_loop]
)
def test_reads_stand_where_the_program_has_them(program):
    variables = many()
    optimizer = built(variables)
    for steps, read in enumerate(program(variables, optimizer)):
        assert_after(steps, read)


def in_a_while_loop(variables, optimizer):
    for _ in tf.range(2):
        once(variables, optimizer)


def in_a_branch(variables, optimizer):
    tf.cond(tf.constant(True), lambda: once(variables, optimizer) or 1, lambda: 1)


def in_a_function(variables, optimizer):
    tf.function(once)(variables, optimizer)


def in_a_function_traced_before(variables, optimizer):
    _traced_before[optimizer]()


_traced_before = {}
STEPS = {
    once: "Apply",
    in_a_function_traced_before: "StatefulPartitionedCall",
    in_a_while_loop: "While",
    in_a_branch: "If",
    in_a_function: "StatefulPartitionedCall",
}


@pytest.mark.parametrize("given", ["captured", "argument", "default"])
@pytest.mark.parametrize("take", STEPS, ids=lambda take: take.__name__)
def test_the_graph_says_so(take, given):
    """Not by chance: each read behind the step waits for its op."""
    variables = many()
    optimizer = built(variables)
    if take is in_a_function_traced_before:
        _traced_before[optimizer] = tf.function(lambda: once(variables, optimizer))
        _traced_before[optimizer]()

    def program(given_variables=variables):
        taken = variables if given == "captured" else given_variables
        take(taken, optimizer)
        return seen(taken, optimizer)

    arguments = [variables] if given == "argument" else []
    if given == "captured":
        function = tf.function(lambda: program())
    else:
        function = tf.function(program)
    graph = function.get_concrete_function(*arguments).graph
    (step,) = [op for op in graph.get_operations() if STEPS[take] in op.type]
    reads = [op for op in graph.get_operations() if op.type == "ReadVariableOp"]
    of_variables = [op for op in reads if op.outputs[0].shape == SHAPE]
    assert len(of_variables) == 2 * COUNT
    assert all(step in op.control_inputs for op in of_variables)


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_the_graph_says_so_of_what_is_captured_late(count):
    """Arguments leave the captures, and as many others come behind the step."""
    variables, others = many(), [tf.Variable(0.0) for _ in range(count)]
    optimizer = built(variables)

    @tf.function
    def program(given):
        once(variables, optimizer)
        return tf.add_n(given), tf.convert_to_tensor(variables[0])

    graph = program.get_concrete_function(others).graph
    (step,) = [op for op in graph.get_operations() if "BundleApply" in op.type]
    reads = [op for op in graph.get_operations() if op.type == "ReadVariableOp"]
    (read,) = [op for op in reads if op.outputs[0].shape == SHAPE]
    assert step in read.control_inputs


def test_two_optimizers_of_a_variable_that_nobody_reads():
    """Each has a bundle of its own, and the graph has no tensor of the variable."""
    variables = many()
    optimizers = [built(variables), tf_optim.SGD(1.0)]
    optimizers[1].build(variables)

    @tf.function
    def program():
        for optimizer in optimizers:
            once(variables, optimizer)

    graph = program.get_concrete_function().graph
    one, two = [op for op in graph.get_operations() if "BundleApply" in op.type]

    def before(op):
        return {*op.control_inputs, *(each.op for each in op.inputs)}

    reached, rest = set(), [two]
    while rest:
        new = before(rest.pop()) - reached
        reached |= new
        rest += new
    assert one in reached


def test_a_trace_that_is_used_for_another_variable():
    """TensorFlow does not trace anew for another argument of the same kind."""
    variables = [tf.Variable([0.0]), tf.Variable([0.0])]
    optimizer = tf_optim.SGD(1.0)
    optimizer.build(variables)

    @tf.function
    def step(variable):
        optimizer.apply_gradients([(tf.ones([1]), variable)])

    for variable in (variables[0], variables[1], variables[1]):
        step(variable)
    assert [float(variable[0]) for variable in variables] == [-1.0, -2.0]
