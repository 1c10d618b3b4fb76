"""Averages that ride along in the op of a step: what a whole pass behind it gives.

A pass over whole variables is what an optimizer takes whose averages may not ride.
"""

import numpy as np
import pytest
import tensorflow as tf

import tf_optim
from tests import cases, flavours, models
from tests.marks import a_few, both_flavours, every_dtype, kinds
from tf_optim import averages, keras_private

pytestmark = both_flavours

ROWS = 12
SHAPES = ((ROWS, 5), (3, 2), (5,))
EMA = {"use_ema": True, "ema_momentum": 0.75}
MEANS = {"averaging": tf_optim.StochasticWeightAveraging(1, 2)}
SLOW = {"averaging": tf_optim.Lookahead(sync_period=3, slow_step_size=0.25)}
every_kind = pytest.mark.parametrize("averaged", [EMA, MEANS, SLOW], ids=str)
others = pytest.mark.parametrize("averaged", [MEANS, SLOW], ids=str)
how = pytest.mark.parametrize("how", ["eager", "function", "jit"])


def sparse(rng, count=4):
    ids = np.append(rng.integers(0, ROWS - 3, size=count - 1), 2)  # some never
    return tf.constant(ids), tf.constant(rng.normal(size=(count, 5)), "float32")


class Training:
    """A table and two dense variables; `rides` says how averages are updated."""

    def __init__(self, case, rides, how="eager", dtype="float32", **options):
        self.rides = rides
        self.variables = models.variables(SHAPES, dtype)
        averaged = {} if "averaging" in options else EMA
        self.optimizer = models.ours(case, 0.1, **{**averaged, **options})
        self.optimizer.build(self.variables)
        self.steps = [self._step, self._dense_step, self._step_of_others]
        if how != "eager":
            jit = how == "jit"
            self.steps = [tf.function(s, jit_compile=jit) for s in self.steps]

    def _apply(self, gradient, which=slice(None)):
        grads = [gradient, tf.ones(SHAPES[1]), tf.ones(SHAPES[2])]
        pairs = list(zip(grads, self.variables, strict=True))[which]
        self.optimizer.apply_gradients(pairs)

    def _step(self, ids, rows):
        shape = tf.constant(SHAPES[0])
        self._apply(
            tf.IndexedSlices(tf.cast(rows, self.variables[0].dtype), ids, shape)
        )

    def _dense_step(self, ids, rows):
        self._apply(tf.math.unsorted_segment_sum(rows, ids, ROWS))

    def _step_of_others(self, ids, rows):
        self._apply(None, slice(1, None))

    def run(self, monkeypatch, kinds, seed=0):
        rng = np.random.default_rng(seed)
        with monkeypatch.context() as patch:
            if not self.rides:
                patch.setattr(averages.Riders, "_take_on", lambda *_: None)
            for kind in kinds:
                self.steps[kind](*sparse(rng))
        return self

    def values(self):
        return models.everything(self.variables, self.optimizer)


def assert_close(left, right, **tolerance):
    for a, b in zip(left, right, strict=True):
        tolerance = tolerance or {"rtol": 1e-5, "atol": 1e-6}
        np.testing.assert_allclose(
            np.asarray(a, "float64"), np.asarray(b, "float64"), **tolerance
        )


def both(case, monkeypatch, kinds, how="eager", **options):
    trainings = [Training(case, r, how, **options) for r in (True, False)]
    return [t.run(monkeypatch, kinds) for t in trainings]


LAZY = [0] * 9


@how
@kinds
@every_kind
def test_a_lazy_step_averages_every_row(averaged, case, how, monkeypatch):
    """Rows that lie idle for some steps, or for good, included."""
    riding, apart = both(case, monkeypatch, LAZY, how, **averaged)
    assert riding.optimizer._seen_by_averages.tables
    assert not apart.optimizer._seen_by_averages.tables
    assert_close(riding.values(), apart.values())


@pytest.mark.parametrize("momentum", [0.0, 0.99, 1.0])
@a_few
def test_momentum(case, momentum, monkeypatch):
    results = both(case, monkeypatch, LAZY, ema_momentum=momentum)
    assert_close(*(each.values() for each in results))


@every_dtype
@a_few
@every_kind
def test_dtypes(averaged, case, dtype, monkeypatch):
    """An average has the variable's dtype, and is computed in the other."""
    riding, apart = both(case, monkeypatch, LAZY, dtype=dtype, **averaged)
    coarse = dtype in ("float16", "bfloat16")
    tolerance = {"rtol": 0.04, "atol": 0.04} if coarse else {}
    assert_close(riding.values(), apart.values(), **tolerance)


MIXED = [0, 0, 1, 0, 2, 0, 0, 2, 2, 1, 1, 0, 0]


@how
@pytest.mark.parametrize("mode", ["lazy", "dense"])
@a_few
@every_kind
def test_dense_steps_and_steps_without_the_table_between(
    averaged, case, mode, how, monkeypatch
):
    results = both(case, monkeypatch, MIXED, how, sparse_update=mode, **averaged)
    assert_close(*(each.values() for each in results))


@how
@a_few
def test_overwriting(case, how, monkeypatch):
    options = {"ema_overwrite_frequency": 3}
    results = both(case, monkeypatch, MIXED, how, **options)
    assert_close(*(each.values() for each in results))


@pytest.mark.skipif(flavours.LEGACY, reason="tf_keras has no accumulation")
@pytest.mark.parametrize("options", [{}, {"ema_overwrite_frequency": 2}], ids=str)
@how
@a_few
def test_accumulation(case, how, options, monkeypatch):
    options = {**options, "gradient_accumulation_steps": 2}
    results = both(case, monkeypatch, LAZY, how, **options)
    assert_close(*(each.values() for each in results))


@every_kind
def test_reading_in_the_middle_changes_nothing(averaged, monkeypatch):
    case = next(c for c in cases.CASES if c.name == "Adam")
    read, unread = (Training(case, True, **averaged) for _ in range(2))
    for i in range(6):
        read.run(monkeypatch, [0, 0], seed=i)
        read.values()
        unread.run(monkeypatch, [0, 0], seed=i)
    assert_close(read.values(), unread.values())


def checkpoint(training, other, folder):
    path = tf.train.Checkpoint(o=other.optimizer, v=other.variables).write(
        str(folder / "a")
    )
    restored = tf.train.Checkpoint(o=training.optimizer, v=training.variables)
    restored.read(path).assert_consumed()


def weights(training, other, folder):
    del folder
    for mine, its in zip(training.variables, other.variables, strict=True):
        mine.assign(its)
    training.optimizer.set_weights(other.optimizer.get_weights())


@pytest.mark.parametrize("way", [checkpoint, weights])
@pytest.mark.parametrize("done", [0, 4, 7])
@a_few
@every_kind
def test_state_that_comes_from_elsewhere(
    averaged, case, way, done, monkeypatch, tmp_path
):
    """At any count of steps, the same one included: the other's rows count."""
    other = Training(case, True, **averaged).run(monkeypatch, [0] * 4)
    training = Training(case, True, **averaged).run(monkeypatch, [0] * done, seed=5)
    way(training, other, tmp_path)
    assert_close(training.values(), other.values())
    after = [t.run(monkeypatch, [0] * 4, seed=7).values() for t in (training, other)]
    assert_close(*after)


def test_finalizing_reads_what_is_up_to_date(monkeypatch):
    case = next(c for c in cases.CASES if c.name == "SGD")
    riding, apart = both(case, monkeypatch, LAZY)
    for training in (riding, apart):
        training.optimizer.finalize_variable_values(training.variables)
    assert_close(riding.variables, apart.variables)


@every_kind
def test_a_lazy_step_touches_no_whole_average(averaged):
    """In its graph the average goes nowhere but into the op of the step.

    And to where rows are brought up to date if the count has moved without a step.
    """
    optimizer = tf_optim.Adam(0.1, **averaged)
    (table,) = models.variables(SHAPES[:1])
    optimizer.build([table])

    @tf.function
    def step(ids, rows):
        optimizer.apply_gradients([(tf.IndexedSlices(rows, ids, SHAPES[0]), table)])

    graph = step.get_concrete_function(*sparse(np.random.default_rng(0))).graph
    average = vars(optimizer)["_model_variables_moving_average"][0]
    average = keras_private.raw(average)
    # It is in the bundle of the op's variables.
    inside = [here for outside, here in graph.captures if outside is average.handle]
    assert {op.type for here in inside for op in here.consumers()} == {"If"}
    steps = [op for op in graph.get_operations() if "SparseApplyAdam" in op.type]
    assert [op.type for op in steps] == ["TfOptim>BundleSparseApplyAdam"]
    has_average, has_rows = 1 << 3, 1 << 4  # behind three slots
    assert steps[0].get_attr("lists") & (has_average | has_rows) == 24


def test_a_constraint_moves_rows_that_lie_idle(monkeypatch):
    """So their average is no closed form of the steps that they have missed."""
    results = []
    for rides in (True, False):
        (table,) = models.variables(SHAPES[:1])
        table = tf.Variable(3 * table, constraint=lambda v: tf.clip_by_norm(v, 1.0, 1))
        optimizer = tf_optim.SGD(0.1, **EMA)
        optimizer.build([table])
        rng = np.random.default_rng(0)
        with monkeypatch.context() as patch:
            if not rides:
                patch.setattr(averages.Riders, "_take_on", lambda *_: None)
            for _ in range(4):
                ids, rows = sparse(rng)
                gradient = tf.IndexedSlices(rows, ids, tf.constant(SHAPES[0]))
                optimizer.apply_gradients([(gradient, table)])
        results.append(models.everything([table], optimizer))
    assert_close(*results)


def test_means_of_rows_that_no_step_has_named_keep_their_bits(monkeypatch):
    """A pass over the whole table rounds them."""
    case = next(c for c in cases.CASES if c.name == "SGD")
    training = Training(case, True, "function", **MEANS)
    before = training.variables[0].numpy()
    training.run(monkeypatch, [0] * 12)
    average = training.optimizer._model_variables_moving_average[0]
    idle = slice(ROWS - 3, None)  # no step names these
    np.testing.assert_array_equal(average.numpy()[idle], before[idle])


def test_slow_weights_are_given_to_the_rows_that_steps_have_named(monkeypatch):
    """A row that only a program has changed keeps what it was given."""
    case = next(c for c in cases.CASES if c.name == "SGD")
    training = Training(case, True, "function", **SLOW).run(monkeypatch, [0])
    table, idle = training.variables[0], slice(ROWS - 3, None)
    table[idle].assign(table[idle] + 1.0)
    given = table.numpy()[idle]
    training.run(monkeypatch, [0] * 8)
    np.testing.assert_array_equal(table.numpy()[idle], given)


@how
@pytest.mark.parametrize("first", [1, 2], ids=["dense", "others"])
@others
def test_others_whose_functions_are_traced_before(averaged, first, how, monkeypatch):
    case = next(c for c in cases.CASES if c.name == "SGD")
    which = [first, 0, 0, first, 0, 0, 0, first, first, 0, 0, 0, 0]
    results = both(case, monkeypatch, which, how, **averaged)
    assert_close(*(each.values() for each in results))


@every_kind
def test_a_function_that_names_the_table_in_its_second_call(averaged):
    """TensorFlow lets a function make variables in its first call alone."""
    table, other = models.variables(((4, 2), (3,)))
    optimizer = tf_optim.SGD(0.5, **averaged)
    optimizer.build([table, other])

    @tf.function
    def step(names_table):
        pairs = [(tf.ones([3]), other)]
        if names_table:
            rows = tf.IndexedSlices(tf.ones([1, 2]), [1], tf.constant([4, 2]))
            pairs.append((rows, table))
        optimizer.apply_gradients(pairs)

    before = table.numpy()
    step(False)
    step(True)
    np.testing.assert_allclose(table.numpy()[1], before[1] - 0.5, rtol=1e-6)


@how
@pytest.mark.parametrize("first", ["others", "dense"])
def test_functions_that_are_traced_before_the_first_lazy_step(first, how):
    """They know of no rows that may lie behind. Stock averages everything each time."""
    results = []
    for make in (tf.keras.optimizers.SGD, tf_optim.SGD):
        table, other = models.variables(((4, 2), (3,)))
        optimizer = make(0.5, use_ema=True, ema_momentum=0.5)
        optimizer.build([table, other])

        def apply(grad, optimizer=optimizer, table=table, other=other):
            pairs = [(tf.ones([3]), other)]
            if grad is not None:
                pairs.append((grad, table))
            optimizer.apply_gradients(pairs)

        def lazy(ids, apply=apply):
            apply(tf.IndexedSlices(tf.ones([1, 2]), ids, tf.constant([4, 2])))

        def whole(apply=apply):
            apply(tf.ones([4, 2]) if first == "dense" else None)

        if how != "eager":
            lazy = tf.function(lazy)
            whole = tf.function(
                whole, jit_compile=how == "jit" and "tf_optim" in str(make)
            )
        for i, row in enumerate((None, 1, 2, None, 0, 1, 1, None, None, 3)):
            whole() if row is None else lazy(tf.constant([row]))
            if i in (7, 9):  # read in the middle, too
                means = optimizer._model_variables_moving_average
                results.append([np.array(v) for v in [table, other, *means]])
    of_stock, ours = results[:2], results[2:]
    for one, other in zip(of_stock, ours, strict=True):
        for theirs, mine in zip(one, other, strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("count", [0, 1, 100])
@pytest.mark.parametrize("graph", [False, True])
def test_a_count_that_somebody_sets(count, graph):
    """As whoever starts a schedule again does."""
    results = []
    for mode in ("dense", "lazy"):
        table = models.variables(((ROWS, 5),))
        optimizer = tf_optim.SGD(0.5, sparse_update=mode, **EMA)
        rng = np.random.default_rng(0)
        steps = [[models.slices(*map(np.array, sparse(rng)), ROWS)] for _ in range(8)]
        models.train(optimizer, table, steps[:4], graph)
        optimizer.iterations.assign(count)
        models.train(optimizer, table, steps[4:], graph)
        means = optimizer._model_variables_moving_average
        results.append([np.array(v) for v in [*table, *means]])
    for whole, by_rows in zip(*results, strict=True):
        np.testing.assert_allclose(by_rows, whole, rtol=1e-5, atol=1e-6)
