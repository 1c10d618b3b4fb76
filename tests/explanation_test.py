"""`explain` says what the graph of a step, the slots that are made and memory say."""

import re

import numpy as np
import pytest
import tensorflow as tf

import tf_optim
from tests import flavours, models
from tests.marks import (
    a_few,
    both_flavours,
    every_case,
    keras_3_only,
    modes,
    richest,
)
from tf_optim import keras_private, library
from tf_optim.benchmark import traffic

pytestmark = both_flavours


def update_ops(optimizer, grads, variables):
    """The types of the ops in the graph of a step that update variables."""
    optimizer.build(variables)
    pairs = list(zip(grads, variables, strict=True))
    graph = tf.function(
        lambda: optimizer.apply_gradients(pairs)
    ).get_concrete_function()
    ours = [op for op in graph.graph.get_operations() if "TfOptim>" in op.type]
    ops = [op for op in ours if "Apply" in op.type]
    return [op.type for op in ops if not op.get_attr("check_only")]


def tables_and_kernels():
    """Variables of two dtypes, of which the first two get sparse gradients."""
    shapes, dtypes = ((9, 4), (9, 4), (4, 3), (3,), (2, 2)), ["float32"] * 4
    variables = [
        tf.Variable(tf.ones(shape, dtype), name=f"v{i}")
        for i, (shape, dtype) in enumerate(
            zip(shapes, [*dtypes, "float64"], strict=True)
        )
    ]
    rows = tf.IndexedSlices(tf.ones([2, 4]), tf.constant([1, 3]))
    return variables, [rows, rows, *(tf.ones_like(v) for v in variables[2:])]


@modes
@richest
def test_op_calls_are_those_of_the_graph(case, mode):
    variables, grads = tables_and_kernels()
    optimizer = models.ours(case, sparse_update=mode)
    ops = update_ops(optimizer, grads, variables)
    said = tf_optim.explain(optimizer, sparse=variables[:2])
    assert said.ops_per_step == len(ops) == 3
    kernels = {row.op: row.kernel for row in said.rows}
    assert sorted(kernels.values()) == ["dense", "dense", f"sparse {mode}"]
    assert sum("Sparse" in op for op in ops) == 1
    assert [row.op for row in said.rows] == [1, 1, 2, 2, 3]
    assert [row.dtype for row in said.rows] == ["float32"] * 4 + ["float64"]
    assert [row.shape for row in said.rows] == [tuple(v.shape) for v in variables]
    assert {row.isa for row in said.rows} == {library.build_info()["isa"]}
    assert {row.device for row in said.rows} == {"CPU:0"}
    reasons = [len(row.reasons) for row in said.rows]
    assert reasons == [0 if mode == "lazy" else 1] * 2 + [0] * 3


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@every_case
def test_memory_is_that_of_the_slots_made(case, dtype):
    optimizer = models.ours(case, use_ema=True)
    optimizer.build(models.variables(dtype=dtype))
    held = [np.asarray(value).nbytes for value in models.state(optimizer)]
    said = tf_optim.explain(optimizer)
    average = sum(tf.size(v).numpy() for v in models.variables()) * (
        4 if dtype == "float32" else 2
    )
    assert said.other_bytes == average
    u_product = 4 if case.name == "Nadam" else 0  # one number for all variables
    assert said.slot_bytes + said.other_bytes == sum(held) - u_product


PER_PARAMETER = {"SGD": 12, "Adagrad": 20, "Adam": 28, "Lamb": 28, "RowWiseAdagrad": 12}


@pytest.mark.parametrize("name", PER_PARAMETER)
def test_bytes_of_a_step(name):
    """As the DRAM sees it: see the table of peers' minimum traffic."""
    optimizer = getattr(tf_optim, name)()
    table, kernel = tf.Variable(tf.ones([100, 8])), tf.Variable(tf.ones([10, 10]))
    optimizer.build([table, kernel])
    sparse, dense = tf_optim.explain(optimizer, sparse=[table]).rows
    per_row = name == "RowWiseAdagrad"
    of_rows = 2 * 4 * 10 if per_row else 0
    # tf_keras keeps a momentum of every SGD.
    has_momentum = name == "SGD" and not keras_private.is_keras_3()
    expected = 20 if has_momentum else PER_PARAMETER[name]
    assert dense.bytes_per_step == expected * 100 + of_rows
    slots = {"SGD": int(has_momentum), "Adagrad": 1, "RowWiseAdagrad": 0}.get(name, 2)
    assert sparse.bytes_per_row == traffic.sparse_bytes(1, 1, 8, slots, per_row)
    assert sparse.bytes_per_step is None and dense.bytes_per_row is None


@a_few
def test_compiled_model(case):
    model = models.compiled(models.recommender(rows=50, width=4), models.ours(case))
    said = tf_optim.explain(model)
    kinds = {row.variable.split("/")[-1]: row.kernel for row in said.rows}
    assert kinds == {"embeddings": "sparse lazy", "kernel": "dense", "bias": "dense"}
    assert said.is_fast and said.ops_per_step == 2
    assert said.optimizer == f"tf_optim.{case.name}"
    assert {row.xla for row in said.rows} == {False}
    before = said.slot_bytes  # of slots that are not made yet
    model.fit(*models.recommender_data(), verbose=0)
    again = tf_optim.explain(model)
    assert again.slot_bytes == before
    alone = tf_optim.explain(model.optimizer)
    assert [r.kernel for r in alone.rows] == [r.kernel for r in again.rows]
    assert {row.xla for row in alone.rows} == {None}
    model.compile(model.optimizer, "mse", jit_compile=True)
    assert {row.xla for row in tf_optim.explain(model).rows} == {True}


class OwnUpdate(tf_optim.SGD):
    def update_step(self, *args):
        super().update_step(*args)


class OwnClip(tf_optim.SGD):
    def _clip_gradients(self, grads):
        return grads


class OwnDecay(tf_optim.SGD):
    def _apply_weight_decay(self, variables):
        pass


def test_op_calls_of_an_update_of_its_own():
    variables, grads = tables_and_kernels()
    optimizer = OwnUpdate()
    ops = update_ops(optimizer, grads, variables)
    said = tf_optim.explain(optimizer, sparse=variables[:2])
    assert said.ops_per_step == len(ops) == len(variables)
    assert [row.op for row in said.rows] == [1, 2, 3, 4, 5]


REASONS = [
    (lambda: tf_optim.SGD(clipnorm=1.0), "`clipnorm` takes the norm", "`clipvalue`"),
    (lambda: tf_optim.SGD(global_clipnorm=1.0), "`global_clipnorm` takes", "clipvalue"),
    (lambda: tf_optim.SGD(sparse_update="dense"), "every row", "lazy"),
    (OwnUpdate, "OwnUpdate overrides `update_step`", "Leave `update_step`"),
    (OwnClip, "OwnClip overrides `_clip_gradients`", "Leave"),
    (OwnDecay, "OwnDecay overrides `_apply_weight_decay`", "Leave"),
    (lambda: tf.keras.optimizers.SGD(), "SGD is Keras' own", "fuse"),
    (
        lambda: tf.keras.optimizers.ScheduleFreeAdamW(),
        "ScheduleFreeAdamW is not",
        "Choose",
    ),
    (
        lambda: tf.keras.mixed_precision.LossScaleOptimizer(tf_optim.SGD()),
        "LossScaleOptimizer looks",
        "bfloat16",
    ),
]


@pytest.mark.parametrize(("make", "why", "remedy"), REASONS)
def test_reason_and_remedy(make, why, remedy):
    model = models.compiled(models.recommender(), make())
    said = tf_optim.explain(model)
    (reason,) = said.rows[0].reasons
    assert why in reason.why and remedy in reason.remedy
    assert not said.is_fast and not said.rows[0].is_fast
    assert f"1: {reason.why} {reason.remedy}" in str(said)


@keras_3_only
def test_accumulation_and_averages():
    model = models.recommender()
    model.compile(tf_optim.Adam(use_ema=True, gradient_accumulation_steps=2), "mse")
    said = tf_optim.explain(model)
    assert ["accumulator" in row.reasons[0].why for row in said.rows] == [True] * 3
    # Of the lazy table, the average rides along at the end of a window.
    assert [len(row.reasons) for row in said.rows] == [1, 2, 2]
    held = sum(np.prod(v.shape) for v in model.trainable_variables) * 4
    assert said.other_bytes == 2 * held
    optimizer = model.optimizer
    optimizer.build(model.trainable_variables)
    made = sum(value.nbytes for value in models.state(optimizer))
    assert said.other_bytes + said.slot_bytes == made
    model.compile(tf_optim.Adam(use_ema=True), "mse", jit_compile=True)
    table = tf_optim.explain(model).rows[0]
    assert "Under XLA `use_ema`" in table.reasons[0].why


def test_average_rides_or_not():
    limited = tf.Variable(tf.ones([4, 2]), constraint=tf.math.abs, name="t/embeddings")
    free = tf.Variable(tf.ones([4, 2]), name="u/embeddings")
    optimizer = tf_optim.Adam(use_ema=True)
    optimizer.build([limited, free])
    rows = tf_optim.explain(optimizer).rows
    assert [len(row.reasons) for row in rows] == [2, 0]
    assert "pass of its own here" in rows[0].reasons[0].why
    assert "constraint" in rows[0].reasons[1].why
    moved = [row.bytes_per_row for row in rows]
    assert moved[1] - moved[0] == 2 * 2 * 4  # its average, in and out


@pytest.mark.parametrize(
    ("sparse_update", "slow_step_size", "rides"),
    [("lazy", 0.5, True), ("lazy", 0.0, False), ("exact", 0.5, False)],
)
def test_slow_weights_ride_or_not(sparse_update, slow_step_size, rides):
    averaging = tf_optim.Lookahead(slow_step_size=slow_step_size)
    optimizer = tf_optim.Adam(sparse_update=sparse_update, averaging=averaging)
    optimizer.build([tf.Variable(tf.ones([4, 2]), name="t/embeddings")])
    reasons = [reason.why for reason in tf_optim.explain(optimizer).rows[0].reasons]
    assert any("`averaging` updates" in why for why in reasons) != rides


def test_regularized_table_has_a_dense_gradient():
    """And so says the tape."""
    inputs = tf.keras.layers.Input((3,), dtype="int32")
    table = tf.keras.layers.Embedding(9, 2, embeddings_regularizer="l2")
    scores = tf.keras.layers.Dense(1)(tf.keras.layers.Flatten()(table(inputs)))
    model = models.compiled(tf.keras.Model(inputs, scores), tf_optim.Adam())
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(tf.zeros([1, 3], "int32"))) + sum(model.losses)
    gradient = tape.gradient(loss, table.trainable_variables)[0]
    assert not isinstance(gradient, tf.IndexedSlices)
    row = tf_optim.explain(model).rows[0]
    assert row.kernel == "dense" and "regularizer" in row.reasons[0].why
    assert "weight_decay" in row.reasons[0].remedy


def test_memory_of_stocks_slots():
    model = models.compiled(models.recommender(), tf.keras.optimizers.Adam())
    assert tf_optim.explain(model).slot_bytes == 0
    model.optimizer.build(model.trainable_variables)
    held = sum(value.nbytes for value in models.state(model.optimizer))
    said = tf_optim.explain(model)
    assert said.slot_bytes == held and said.ops_per_step is None
    assert {row.kernel for row in said.rows} == {"Keras"}
    assert said.optimizer.endswith("keras.optimizers.Adam")


def test_prints_a_table():
    model = models.compiled(models.recommender(), tf_optim.Adam(clipnorm=1.0))
    lines = repr(tf_optim.explain(model)).splitlines()
    assert lines[0] == "tf_optim.Adam: 3 variables"
    assert re.split(r"\s{2,}", lines[1])[:4] == ["variable", "shape", "dtype", "device"]
    cells = re.split(r"\s{2,}", lines[2])
    isa = library.build_info()["isa"]
    assert cells[0].endswith("/embeddings")
    assert cells[1:-3] == ["50 x 4", "float32", "CPU:0", "sparse lazy", isa, "no", "1"]
    assert cells[-3:] == ["120 B a row", "1.562 KiB", "1"]
    assert lines[5].startswith("total") and "2 in all" in lines[5]
    assert lines[6].startswith("1: `clipnorm`") and len(lines) == 7
    starts = [line.index("float32") for line in lines[2:5]]
    assert len(set(starts)) == 1


def test_variables_with_rates_of_their_own():
    variables, grads = tables_and_kernels()
    factors = {"v2": 2.0, "v3": 0.0}
    optimizer = tf_optim.Adam(learning_rate_multipliers=factors)
    ops = update_ops(optimizer, grads, variables)
    said = tf_optim.explain(optimizer, sparse=variables[:2])
    assert said.ops_per_step == len(ops) == 3  # a rate more is no op more
    frozen = said.rows[3]
    assert (frozen.kernel, frozen.op, frozen.bytes_per_step) == ("frozen", None, 0)


def test_what_cannot_be_explained():
    expected = "`optimizer_or_model` must be an optimizer that is built or a compiled"
    bare = models.classifier()
    empty = tf.keras.Sequential([tf.keras.layers.Dense(2)])
    empty.compile(tf_optim.SGD(), "mse")
    wrong = [
        (3, "Received: 3"),
        ("adam", "Received: 'adam'"),
        (tf_optim.SGD(), "tf_optim.SGD, which is not built"),
        (bare, "which has no optimizer"),
        (empty, "which has no variables"),
    ]
    if flavours.LEGACY:
        wrong.append((tf.keras.optimizers.Adam(), "keeps no list of the variables"))
    for thing, received in wrong:
        with pytest.raises(ValueError, match=expected) as error:
            tf_optim.explain(thing)
        assert received in str(error.value)


def test_exact_mode_and_where_it_takes_dense_steps():
    kinds = []
    for prepared in (True, False):
        model = models.recommender(rows=50, width=4)
        if prepared:
            tf_optim.prepare(model)
        models.compiled(model, tf_optim.Adam(sparse_update="exact"))
        said = tf_optim.explain(model)
        kinds.append(said.rows[0].kernel)
        assert said.is_fast is prepared
    assert kinds == ["sparse exact", "sparse dense"]
    (reason,) = said.rows[0].reasons
    assert "takes dense steps here" in reason.why and "Embedding" in reason.remedy
    lazy = models.compiled(models.recommender(rows=50, width=4), tf_optim.Adam())
    prepared = tf_optim.prepare(models.recommender(rows=50, width=4))
    models.compiled(prepared, tf_optim.Adam(sparse_update="exact"))
    of_lazy, of_exact = (tf_optim.explain(m).rows[0] for m in (lazy, prepared))
    # A row, its two slots and 8 bytes of the history, in and out once more.
    assert of_exact.bytes_per_row - of_lazy.bytes_per_row == 2 * 3 * 4 * 4 + 8
    assert of_exact.other_bytes == 8 * 50
    assert "step numbers of rows: 400 B" in repr(tf_optim.explain(prepared))


def test_a_table_of_any_name_that_has_been_read_by_rows():
    table, optimizer = (
        tf.Variable(tf.ones([5, 2])),
        tf_optim.Adam(sparse_update="exact"),
    )
    optimizer.build([table])
    assert tf_optim.explain(optimizer).rows[0].kernel == "dense"
    tf_optim.lookup(table, [0])
    assert tf_optim.explain(optimizer).rows[0].kernel == "sparse exact"


@pytest.mark.parametrize(
    "make",
    [
        lambda: tf_optim.Adam(learning_rate_multipliers={"kernel": 0.5, "bias": 0.0}),
        lambda: tf_optim.Lamb(exclude_from_layer_adaptation=["bias"]),
        lambda: tf_optim.Muon(exclude_layers=["kernel"]),
        lambda: tf_optim.MultiOptimizer(
            [(tf_optim.Adam(learning_rate_multipliers={"bias": 0.5}), None)]
        ),
    ],
    ids=["multipliers", "layers", "Muon", "several"],
)
def test_a_model_says_the_same_before_its_optimizer_is_built(make):
    model = models.classifier()
    model.compile(make(), "mse")
    before = tf_optim.explain(model)
    model.fit(np.ones((4, 4)), np.ones((4, 3)), verbose=0)
    after = tf_optim.explain(model)
    assert [(row.variable, row.kernel, row.op) for row in before.rows] == [
        (row.variable, row.kernel, row.op) for row in after.rows
    ]
