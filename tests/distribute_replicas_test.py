"""MirroredStrategy and MultiWorkerMirroredStrategy: replicas hold the same bits.

The oracle is one device that is given the sum of all replicas' gradients, and stock
under the same strategy where stock can do it and is right.
"""

import numpy as np
import pytest
import tensorflow as tf

from examples import local_cluster
from tests import cases, children, flavours, models, replicated
from tests.marks import keras_3_only, kinds

pytestmark = pytest.mark.both_flavours

# What does not depend on the rule is tested with one.
one = pytest.mark.parametrize(
    "case", [case for case in cases.RICHEST if case.name == "Adam"], ids=str
)
EMA = {"use_ema": True, "ema_momentum": 0.9, "ema_overwrite_frequency": 2}


class Group:
    """All processes of a strategy."""

    def __init__(self, kind, environments):
        self.kind = kind
        self.children = []
        try:
            for environment in environments:
                self.children.append(children.Child(environment))
            # The first collective waits for everybody.
            self.call(replicated.strategy_name)
        except BaseException:
            self.close()
            raise

    def call(self, function, *arguments, **options):
        return children.call_all(
            self.children, function, self.kind, *arguments, **options
        )

    def is_alive(self):
        return all(child.is_alive() for child in self.children)

    def close(self):
        for child in self.children:
            child.close()


def _environments(kind):
    if kind == "mirrored":  # fewer threads than its replicas wait for: it hangs
        return [{"TF_NUM_INTEROP_THREADS": "8"}]
    ports = local_cluster.free_ports(replicated.REPLICAS)
    tasks = [f"127.0.0.1:{port}" for port in ports]
    return [
        {"TF_CONFIG": local_cluster.config({"worker": tasks}, "worker", i)}
        for i in range(replicated.REPLICAS)
    ]


@pytest.fixture(scope="module", params=["mirrored", "multi-worker"])
def groups(request):
    """Starts one; another where a test has lost a process of it."""
    made = []

    def alive():
        if not made or not made[-1].is_alive():
            made.append(Group(request.param, _environments(request.param)))
        return made[-1]

    yield alive
    for group in made:
        group.close()


@pytest.fixture
def group(groups):
    return groups()


def merged(per_process):
    """Each variable's values on all devices of all processes."""
    return [sum(values, []) for values in zip(*per_process, strict=True)]


def assert_same_bits(values):
    for replicas in values:
        assert len(replicas) == replicated.REPLICAS
        for other in replicas[1:]:
            np.testing.assert_array_equal(other, replicas[0])


def assert_close(left, right, close=1e-5):
    """A sum of three gradients depends on the order in which they come."""
    atol = close * np.max(np.abs(right), initial=0.0)
    np.testing.assert_allclose(left, right, rtol=close, atol=atol)


def assert_one_device(values, case, **arguments):
    alone = replicated.trained("one device", "ours", case, **arguments)
    for replicas, (expected,) in zip(values, alone, strict=True):
        assert_close(replicas[0], expected)


def assert_stock(group, case, **arguments):
    """Follows stock under the same strategy, on dense gradients."""
    both = [
        merged(group.call(replicated.trained, make, case, sparse=False, **arguments))
        for make in ("ours", "stock")
    ]
    assert_same_bits(both[0])
    for ours, theirs in zip(*both, strict=True):
        assert_close(ours[0], theirs[0])


@kinds
def test_one_op_per_device_and_kind_of_gradient(group, case):
    for counts in group.call(replicated.graph_ops, case):
        devices = replicated.REPLICAS // len(group.children)
        counts.pop(
            "TfOptim>SumRepeatedRows", None
        )  # of each gradient, before it is sent
        ours = [n for op, n in counts.items() if "Apply" in op]
        assert len(counts) <= 3 and ours == [devices, devices], counts


@kinds
def test_replicas_are_one_device_with_all_gradients(group, case):
    """Ids repeated within a replica and across replicas included."""
    values = merged(group.call(replicated.trained, "ours", case))
    assert_same_bits(values)
    assert_one_device(values, case)


OPTIONS = [
    {"weight_decay": 0.1},
    {"clipvalue": 0.3},
    EMA,
    {**EMA, "weight_decay": 0.1, "sparse_update": "dense"},
]


@pytest.mark.parametrize("arguments", OPTIONS, ids=str)
@one
def test_options_are_those_of_one_device(group, case, arguments):
    if "clipvalue" in arguments and not flavours.LEGACY:
        pytest.skip("Keras 3 clips before it adds up: see the test against stock")
    values = merged(group.call(replicated.trained, "ours", case, **arguments))
    assert_same_bits(values)
    assert_one_device(values, case, **arguments)


EXACT = [{}, {"weight_decay": 0.1}, {"use_ema": True, "ema_momentum": 0.9}]


@pytest.mark.parametrize("arguments", EXACT, ids=str)
@pytest.mark.parametrize("mode", ["exact", "eventual"])
@one
def test_exact_on_replicas_is_the_dense_result(group, case, arguments, mode):
    """Replicas read different rows, and one machine the whole table, in between."""
    options = {"reads": mode == "exact", "steps": 14, **arguments}
    values = merged(
        group.call(replicated.trained, "ours", case, sparse_update=mode, **options)
    )
    assert_same_bits(values)
    assert_one_device(values, case, sparse_update="dense", **options)


@one
def test_exact_on_replicas_takes_steps_of_rows(group, case):
    """Each brings up to date what others have read; the whole table nobody reads."""
    options = {"reads": True, "sparse_update": "exact"}
    for modes, ops in group.call(replicated.modes_and_ops, case, **options):
        assert modes == {"eventual"} and "TfOptim>LookupRows" in ops
        # Another machine may have brought it up to date.
        assert ("TfOptim>CatchUpAllRows" in ops) == (group.kind == "multi-worker")


@one
def test_exact_on_replicas_goes_on_from_a_checkpoint(group, case, tmp_path):
    options = {"reads": True, "sparse_update": "exact"}
    path = str(tmp_path / "state")
    group.call(replicated.saved, case, path, 7, **options)
    values = merged(group.call(replicated.resumed, case, path, 7, 14, **options))
    assert_same_bits(values)
    assert_one_device(values, case, steps=14, sparse_update="dense", reads=True)


@one
def test_a_saved_model_of_exact_on_replicas_serves(group, case, tmp_path):
    """Where there are no replicas, and no history."""
    if group.kind == "multi-worker":
        pytest.skip("its machines save to one path")
    path = str(tmp_path / "model")
    ((ids, expected),) = group.call(replicated.exported, case, path)
    loaded = tf.saved_model.load(path)
    assert_close(loaded.serve(ids).numpy(), expected)


CLIPS = [{"clipvalue": 0.3}, {"clipnorm": 0.5}, {"global_clipnorm": 0.9}]


@pytest.mark.parametrize("arguments", [*CLIPS, {"weight_decay": 0.1}, {}], ids=str)
@one
def test_as_stock_under_the_same_strategy(group, case, arguments):
    assert_stock(group, case, **arguments)


@pytest.mark.parametrize("arguments", CLIPS, ids=str)
@one
def test_clipping_of_repeated_ids_keeps_replicas_the_same(group, case, arguments):
    values = merged(group.call(replicated.trained, "ours", case, **arguments))
    assert_same_bits(values)
    if flavours.LEGACY:  # adds up, then clips
        assert_one_device(values, case, **arguments)


@one
def test_average_without_overwriting_is_stock(group, case):
    assert_stock(group, case, use_ema=True, ema_momentum=0.9)


@keras_3_only
@one
def test_loss_scale_factor(group, case):
    assert_stock(group, case, loss_scale_factor=16.0)
    arguments = {"loss_scale_factor": 16.0}
    values = merged(group.call(replicated.trained, "ours", case, **arguments))
    assert_same_bits(values)
    assert_one_device(values, case, **arguments)


@pytest.mark.parametrize("wrapper", ["stock", "ours"])
@one
def test_loss_scale_optimizer(group, case, wrapper):
    """With a scale of 1 it is the optimizer inside."""
    arguments = {"scaled_by": wrapper}
    values = merged(group.call(replicated.trained, "ours", case, **arguments))
    assert_same_bits(values)
    assert_one_device(values, case)


@keras_3_only  # tf_keras' has its scale from the start
@one
def test_loss_scale_optimizer_that_the_first_step_builds(group, case):
    """One replica builds it, and the other finds it built."""
    arguments = {"scaled_by": "ours", "builds": False}
    values = merged(group.call(replicated.trained, "ours", case, **arguments))
    assert_same_bits(values)
    assert_one_device(values, case)


@one
def test_statistics_are_of_the_sum_of_all_gradients(group, case):
    expected = replicated.statistics("one device", case)
    for numbers in group.call(replicated.statistics, case):
        assert numbers.keys() == expected.keys()
        for name, number in numbers.items():
            np.testing.assert_allclose(number, expected[name], rtol=1e-6, err_msg=name)


@pytest.mark.parametrize("made_in_scope", [True, False])
def test_a_step_of_several_optimizers_counts_once(group, made_in_scope):
    for counts in group.call(replicated.counted, made_in_scope):
        assert counts == (2, 2)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("fuses", [False, True], ids=["built", "fused"])
def test_slots_are_made_on_every_replica(group, fuses, dtype):
    """Of 16-bit variables, and beside those that only stock's slots tell of."""
    values = merged(group.call(replicated.stepped, dtype, fuses))
    assert_same_bits(values)
    start = models.variables(replicated.SHAPES, dtype)
    for replicas, before in zip(values, start, strict=True):
        moved = before.numpy().astype("float64") - replicas[0].astype("float64")
        np.testing.assert_allclose(moved, 0.2, atol=0.01)


@pytest.mark.parametrize("rounding", [None, False], ids=["at random", "to nearest"])
@pytest.mark.parametrize("slot_dtype", ["bfloat16", "int8"])
def test_packed_slots(group, slot_dtype, rounding, tmp_path):
    """All replicas draw the same, and what is saved is read by each."""
    arguments = {"stochastic_rounding": rounding}
    if group.kind == "multi-worker":
        pytest.skip("TensorFlow cannot send such variables to other machines")
    path = str(tmp_path / "state")
    told = group.call(replicated.packed_slots, slot_dtype, path, **arguments)
    whole, resumed, dtypes = zip(*told, strict=True)
    assert {*sum(dtypes, [])} == {slot_dtype}
    assert_same_bits(merged(whole))
    one, *_ = replicated.packed_slots("one device", slot_dtype, path, **arguments)
    for replicas, (expected,) in zip(merged(whole), one, strict=True):
        assert_close(replicas[0], expected)
    for replicas, expected in zip(merged(resumed), merged(whole), strict=True):
        np.testing.assert_array_equal(replicas[0], replicas[1])
        assert_close(replicas[0], expected[0], 0.02)


ACCUMULATING = [{}, {"clipnorm": 0.5}, EMA, {"weight_decay": 0.1}]


@keras_3_only
@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
@pytest.mark.parametrize("arguments", ACCUMULATING, ids=str)
@one
def test_gradient_accumulation(group, case, arguments, sparse):
    """Stock raises here. Six steps of two, then one that ends no window."""
    arguments = {"gradient_accumulation_steps": 2, "sparse": sparse, **arguments}
    options = {**arguments, "steps": 7}
    values = merged(group.call(replicated.trained, "ours", case, **options))
    assert_same_bits(values)
    assert_one_device(values, case, **options)


@keras_3_only
@one
def test_each_replica_keeps_the_gradients_of_a_window(group, case):
    counts = group.call(replicated.kept, case, gradient_accumulation_steps=2)
    ids = [replicated.gradients(0, replica)[0] for replica in range(2)]
    assert sum(counts, []) == [len(ids[0]) + len(ids[1])] * 2


@keras_3_only
@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
@one
def test_a_window_goes_on_from_a_checkpoint(group, case, sparse, tmp_path):
    """Saved after the first step of the second window, of two replicas."""
    options = {"gradient_accumulation_steps": 2, "sparse": sparse}
    path = str(tmp_path / "state")
    whole = merged(group.call(replicated.trained, "ours", case, 6, **options))
    group.call(replicated.saved, case, path, 3, **options)
    resumed = merged(group.call(replicated.resumed, case, path, 3, 6, **options))
    assert_same_bits(resumed)
    for replicas, expected in zip(resumed, whole, strict=True):
        assert_close(replicas[0], expected[0])


@one
def test_failed_step_changes_nothing_and_is_not_counted(group, case):
    for before, after, said in group.call(replicated.failed, case):
        for left, right in zip(before, after, strict=True):
            np.testing.assert_array_equal(left, right)
        assert f"must be in [0, {replicated.ROWS}). Received: {replicated.ROWS}" in said


@pytest.mark.parametrize("mode", ["dense", "exact"])
@one
def test_model_fit(group, case, mode):
    """Stock is right on ids that occur once, and moves every row."""
    if group.kind == "multi-worker" and not flavours.LEGACY:
        with pytest.raises(children.ChildError, match="ValueError: .*PerReplica"):
            group.call(replicated.fitted, "stock", case)
        pytest.skip("Keras 3's fit does not know several workers, whose ever it is")
    results = group.call(replicated.fitted, "ours", case, sparse_update=mode)
    weights = merged([values for _, values in results])
    assert_same_bits(weights)
    alone_loss, alone = replicated.fitted("one device", "stock", case)
    for loss, _ in results:
        np.testing.assert_allclose(loss, alone_loss, rtol=1e-4)
    for replicas, (expected,) in zip(weights, alone, strict=True):
        assert_close(replicas[0], expected, 1e-4)
