"""Sparse steps on ids that Hypothesis draws: any number, any repeats."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import cases, models, numerics
from tests.marks import both_flavours, kinds, modes, richest
from tests.sparse_test import assert_sparse_step, slot_arrays

ROWS, WIDTH = 7, 3

bounded = settings(max_examples=20, deadline=None, derandomize=True, database=None)
# Quarters, so that sums of a row's gradients are exact in any order.
quarters = st.integers(-40, 40).map(lambda number: number / 4.0)
steps = st.lists(
    st.lists(st.tuples(st.integers(0, ROWS - 1), quarters), max_size=12),
    min_size=1,
    max_size=3,
)


def slices(step):
    ids = np.array([i for i, _ in step], np.int64)
    values = np.array([value for _, value in step], np.float32)
    values = values[:, None] * np.array([1.0, -2.0, 0.5], np.float32)
    return models.slices(ids, values.reshape(-1, WIDTH), ROWS)


def table_and_optimizer(case, mode, **options):
    table = models.variables(((ROWS, WIDTH),))[0]
    optimizer = models.ours(case, sparse_update=mode, **options)
    optimizer.build([table])
    return table, optimizer


@both_flavours
@modes
@richest
@bounded
@given(steps=steps)
def test_a_step_is_the_reference_on_the_summed_gradient(case, mode, steps):
    table, optimizer = table_and_optimizer(case, mode)
    for iterations, step in enumerate(steps):
        gradient = slices(step)
        before = table.numpy(), slot_arrays(case, optimizer, 0)
        optimizer.apply_gradients([(gradient, table)])
        after = table.numpy(), slot_arrays(case, optimizer, 0)
        assert_sparse_step(
            case,
            before,
            after,
            gradient.values.numpy(),
            gradient.indices.numpy(),
            mode,
            models.rate(case),
            iterations,
        )


@both_flavours
@kinds
@bounded
@given(steps=steps, clip=st.sampled_from([None, 0.5]))
def test_dense_mode_is_the_dense_gradient(case, steps, clip):
    options = {"clipvalue": clip, "weight_decay": 0.1}
    table, optimizer = table_and_optimizer(case, "dense", **options)
    other, dense_optimizer = table_and_optimizer(case, "lazy", **options)
    for step in steps:
        gradient = slices(step)
        optimizer.apply_gradients([(gradient, table)])
        dense_optimizer.apply_gradients([(models.dense(gradient), other)])
    for left, right in zip(
        models.everything([table], optimizer),
        models.everything([other], dense_optimizer),
        strict=True,
    ):
        assert numerics.same_bits(left, right)


@bounded
@given(ids=st.lists(st.integers(0, ROWS - 1), min_size=1, max_size=12), data=st.data())
def test_the_order_of_ids_does_not_matter(ids, data):
    order = data.draw(st.permutations(range(len(ids))))
    values = np.arange(len(ids)) / 4.0
    results = []
    for chosen in (range(len(ids)), order):
        table, optimizer = table_and_optimizer(cases.RICHEST[0], "lazy")
        gradient = slices([(ids[i], values[i]) for i in chosen])
        optimizer.apply_gradients([(gradient, table)])
        results.append(models.everything([table], optimizer))
    for left, right in zip(*results, strict=True):
        assert numerics.same_bits(left, right)
