"""All variables of an op behind one handle: which it is, and who saves and loads it."""

import gc
import pathlib
import subprocess
import sys
import weakref

import numpy as np
import pytest
import tensorflow as tf

import tf_optim
from tests import flavours, models
from tests.marks import both_flavours, every
from tf_optim import bundles, library

pytestmark = both_flavours

COUNT = 40
SHAPE = (64, 32)


def many():
    return [tf.Variable(tf.zeros(SHAPE), name=f"v{i}") for i in range(COUNT)]


def ones(variables):
    return [tf.ones(v.shape) for v in variables]


def built(variables, **arguments):
    """SGD with momentum 0.5: after ones of a gradient each step is known."""
    optimizer = tf_optim.SGD(1.0, momentum=0.5, **arguments)
    optimizer.build(variables)
    return optimizer


def velocity_after(steps):
    velocity = 0.0
    for _ in range(steps):
        velocity = 0.5 * velocity - 1.0
    return velocity


def value_after(steps):
    return sum(velocity_after(i + 1) for i in range(steps))


def once(variables, optimizer):
    optimizer.apply_gradients(zip(ones(variables), variables, strict=True))


def seen(variables, optimizer):
    """Each variable's and each slot's one value, read in a graph."""
    slots = [v for v in optimizer.variables if v.shape == SHAPE]
    assert len(slots) == COUNT
    reads = [tf.convert_to_tensor(each) for each in [*variables, *slots]]
    return tf.stack([tf.stack([tf.reduce_min(r), tf.reduce_max(r)]) for r in reads])


def assert_after(steps, read):
    expected = np.repeat([value_after(steps), velocity_after(steps)], COUNT)
    np.testing.assert_array_equal(np.asarray(read), np.stack([expected] * 2, 1))


def test_a_function_captures_one_handle():
    variables = many()
    optimizer = tf_optim.Adam(1e-3)
    optimizer.build(variables)
    step = tf.function(lambda: once(variables, optimizer)).get_concrete_function()
    handles = [t for t in step.captured_inputs if t.dtype == tf.resource]
    # The bundle; the learning rate's and the count's variable.
    assert len(handles) <= 3


def test_ever_new_combinations():
    variables = many()
    optimizer = built(variables)
    rng = np.random.default_rng(0)
    steps = np.zeros(COUNT, int)
    for _ in range(bundles.MOST + 10):
        some = rng.permutation(COUNT)[: rng.integers(1, COUNT)]
        once([variables[i] for i in some], optimizer)
        steps[some] += 1
    found = [v.numpy() for v in variables]
    expected = [np.full(SHAPE, value_after(n)) for n in steps]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


class Trained(tf.Module):
    def __init__(self):
        super().__init__()
        self.parts = many()
        self.optimizer = built(self.parts)

    @tf.function(input_signature=[])
    def train(self):
        once(self.parts, self.optimizer)
        return seen(self.parts, self.optimizer)

    @tf.function(input_signature=[])
    def serve(self):
        return tf.add_n([tf.convert_to_tensor(v) for v in self.parts])


def saved(module, path, **arguments):
    options = tf.saved_model.SaveOptions(namespace_whitelist=["TfOptim"])
    tf.saved_model.save(module, str(path), options=options, **arguments)
    return str(path)


def test_a_saved_model_goes_on_training(tmp_path):
    module = Trained()
    module.train()
    path = saved(module, tmp_path / "first")
    loaded = tf.saved_model.load(path)
    assert_after(2, loaded.train())
    again = tf.saved_model.load(saved(loaded, tmp_path / "second"))
    assert_after(3, again.train())
    # Each has variables of its own.
    assert_after(2, module.train())


def test_a_table_in_parts_is_saved(tmp_path):
    """tf_keras gives an optimizer such a table of parameter servers whole."""
    parts = [tf.Variable([[i, i + 1.0]], name=f"part_{i}") for i in range(2)]
    module = tf.Module()
    module.table = tf.__internal__.distribute.ShardedVariable(parts)
    module.optimizer = built([module.table] if flavours.LEGACY else parts)
    loaded = tf.saved_model.load(saved(module, tmp_path / "model"))
    np.testing.assert_array_equal(loaded.table, [[0, 1], [1, 2]])


@every("times")
@pytest.mark.parametrize("times", [1, 2, 3])
def test_a_function_of_a_saved_model_is_read_in_order(times, tmp_path):
    loaded = Trained()
    for i in range(times):
        loaded = tf.saved_model.load(saved(loaded, tmp_path / str(i)))

    @tf.function
    def program():
        reads = [loaded.serve()]
        for _ in range(2):
            loaded.train()
            reads.append(loaded.serve())
        return reads

    for steps, read in enumerate(program()):
        np.testing.assert_allclose(read, np.full(SHAPE, COUNT * value_after(steps)))


@every("is_loaded")
@pytest.mark.parametrize("is_loaded", [False, True])
def test_who_serves_needs_none_of_our_ops(is_loaded, tmp_path):
    """A program without tf_optim loads a model that is saved with its optimizer."""

    class Served(tf.Module):
        def __init__(self, trained):
            super().__init__()
            self.optimizer, self.parts = trained.optimizer, trained.parts
            self.serve = trained.serve

    module = Trained()
    module.train()  # a bundle has been made
    if is_loaded:
        module = tf.saved_model.load(saved(module, tmp_path / "first"))
    path = saved(Served(module), tmp_path / "model")
    program = (
        "import sys, tensorflow as tf;"
        f"model = tf.saved_model.load({path!r});"
        "print(float(model.serve()[0, 0]));"
        "assert 'tf_optim' not in sys.modules"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program],
        cwd=pathlib.Path(path),
        check=False,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    assert float(ran.stdout) == COUNT * value_after(1)


def test_names_are_in_the_error_of_a_bad_gradient():
    variables = models.variables([(2, 3), (4,)])
    optimizer = built(variables)

    @tf.function(input_signature=[tf.TensorSpec(None), tf.TensorSpec([4])])
    def step(first, second):
        optimizer.apply_gradients(zip([first, second], variables, strict=True))

    before = [v.numpy() for v in variables]
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"grad\[0\] must have"):
        step(tf.ones([3, 2]), tf.ones([4]))
    for variable, value in zip(variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)


def raw_step(bundle, count, **inputs):
    grads = [tf.ones([4])] * count
    library.ops().tf_optim_bundle_apply_sgd(
        bundle=bundle,
        grad=grads,
        learning_rate=1.0,
        iterations=0,
        momentum_rate=0.0,
        gradient_scale=[],
        clip_value=0.0,
        weight_decay=[],
        average_momentum=0.0,
        average_updates=0,
        history=[],
        **inputs,
    )


def bundle_of(variables):
    bundle = library.ops().tf_optim_variable_bundle()
    handles = [variable.handle for variable in variables]
    library.ops().tf_optim_fill_variable_bundle(bundle=bundle, variables=handles)
    return bundle


def test_what_a_bundle_must_hold():
    """Errors of the op that Python cannot make."""
    one, other = tf.Variable(tf.zeros([4])), tf.Variable(tf.zeros([4]))
    with pytest.raises(
        tf.errors.FailedPreconditionError, match="must hold the 2 .*: 1"
    ):
        raw_step(bundle_of([one]), 2, lists=0)
    with pytest.raises(
        tf.errors.FailedPreconditionError, match="must hold the 2 .*: 1"
    ):
        raw_step(bundle_of([one]), 1, lists=1)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"var\[0\] and var\[1\]"):
        raw_step(bundle_of([one, one]), 2, lists=0)
    with pytest.raises(tf.errors.InvalidArgumentError, match="VariableBundle"):
        raw_step(one.handle, 1, lists=0)
    assert not one.numpy().any()
    raw_step(bundle_of([one, other]), 2, lists=0)
    np.testing.assert_array_equal([one, other], -np.ones([2, 4]))


def test_nothing_outlives_a_model():
    """Neither its graphs nor its variables, with another one still there."""
    other = tf.Variable(tf.ones([3]))
    stay = tf_optim.SGD(0.1)
    stay.build([other])
    step = tf.function(lambda: stay.apply_gradients([(tf.ones([3]), other)]))
    step()

    def train():
        variable = tf.Variable(tf.ones([3]))
        optimizer = tf_optim.Adam(0.1)
        optimizer.build([variable])
        one = tf.function(lambda: optimizer.apply_gradients([(variable * 1, variable)]))
        one()
        graph = one.get_concrete_function().graph
        return weakref.ref(graph), weakref.ref(variable.handle)

    gc.collect()
    before = len(bundles._known)
    kept = train()
    tf.keras.backend.clear_session()
    gc.collect()
    assert [each() for each in kept] == [None, None]
    assert len(bundles._known) == before
    step()
