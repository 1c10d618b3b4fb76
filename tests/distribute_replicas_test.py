"""MirroredStrategy and MultiWorkerMirroredStrategy: replicas hold the same bits.

The oracle is one device that is given the sum of all replicas' gradients, and stock
under the same strategy where stock can do it and is right.
"""

import numpy as np
import pytest

from examples import local_cluster
from tests import cases, children, flavours, models, replicated

pytestmark = pytest.mark.both_flavours

richest = pytest.mark.parametrize("case", cases.RICHEST, ids=str)
# What does not depend on the rule is tested with one.
one = pytest.mark.parametrize(
    "case", [case for case in cases.RICHEST if case.name == "Adam"], ids=str
)
keras_3_only = pytest.mark.skipif(flavours.LEGACY, reason=models.KERAS_3_ONLY)
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
def group(request):
    group = Group(request.param, _environments(request.param))
    yield group
    group.close()


def merged(per_process):
    """Each variable's values on all devices of all processes."""
    return [sum(values, []) for values in zip(*per_process, strict=True)]


def assert_same_bits(values):
    for replicas in values:
        assert len(replicas) == replicated.REPLICAS
        for other in replicas[1:]:
            np.testing.assert_array_equal(other, replicas[0])


def assert_one_device(values, case, **arguments):
    alone = replicated.trained("one device", "ours", case, **arguments)
    # A sum of three gradients depends on the order in which they come.
    for replicas, (expected,) in zip(values, alone, strict=True):
        np.testing.assert_allclose(replicas[0], expected, rtol=1e-5, atol=1e-6)


def assert_stock(group, case, **arguments):
    """Follows stock under the same strategy, on dense gradients."""
    both = [
        merged(group.call(replicated.trained, make, case, sparse=False, **arguments))
        for make in ("ours", "stock")
    ]
    assert_same_bits(both[0])
    for ours, theirs in zip(*both, strict=True):
        np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-5, atol=1e-6)


@richest
def test_one_op_per_device_and_kind_of_gradient(group, case):
    for counts in group.call(replicated.graph_ops, case):
        devices = replicated.REPLICAS // len(group.children)
        ours = [n for op, n in counts.items() if "Apply" in op]
        assert len(counts) <= 3 and ours == [devices, devices], counts


@richest
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


@one
def test_loss_scale_optimizer(group, case):
    """With a scale of 1 it is the optimizer inside."""
    arguments = {"scaled": True}
    values = merged(group.call(replicated.trained, "ours", case, **arguments))
    assert_same_bits(values)
    assert_one_device(values, case)


@keras_3_only
@pytest.mark.parametrize(
    "arguments", [{}, {"clipnorm": 0.5}, EMA, {"weight_decay": 0.1}], ids=str
)
@one
def test_gradient_accumulation(group, case, arguments):
    """Stock raises here. Six steps of two, then one that ends no window."""
    arguments = {"gradient_accumulation_steps": 2, "sparse": False, **arguments}
    options = {**arguments, "steps": 7}
    values = merged(group.call(replicated.trained, "ours", case, **options))
    assert_same_bits(values)
    assert_one_device(values, case, **options)


@one
def test_failed_step_changes_nothing_and_is_not_counted(group, case):
    for before, after, said in group.call(replicated.failed, case):
        for left, right in zip(before, after, strict=True):
            np.testing.assert_array_equal(left, right)
        assert f"must be in [0, {replicated.ROWS}). Received: {replicated.ROWS}" in said


@one
def test_model_fit(group, case):
    """Stock is right on ids that occur once, and moves every row."""
    try:
        group.call(replicated.fitted, "stock", case)
    except children.ChildError as error:
        pytest.skip(f"stock's model.fit raises {str(error).splitlines()[0]}")
    results = group.call(replicated.fitted, "ours", case, sparse_update="dense")
    weights = merged([values for _, values in results])
    assert_same_bits(weights)
    alone_loss, alone = replicated.fitted("one device", "stock", case)
    for loss, _ in results:
        np.testing.assert_allclose(loss, alone_loss, rtol=1e-4)
    for replicas, (expected,) in zip(weights, alone, strict=True):
        np.testing.assert_allclose(replicas[0], expected, rtol=1e-4, atol=1e-5)
