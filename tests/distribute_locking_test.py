"""`use_locking`: what many workers do to the same rows of one server at once.

Here workers are threads of one process: a server's kernels see no difference.
"""

import os
import threading

import numpy as np
import pytest
import tensorflow as tf

import tf_optim
from tests import models, served
from tests.counters import counters, moves_by_one
from tests.marks import richest
from tf_optim import library

pytestmark = pytest.mark.both_flavours

ROWS, WIDTH = 400, 256  # 16 cache lines in a row, and steps long enough to meet
THREADS, STEPS = 4, 150
STORE = {"avx512": 64, "avx2": 32, "baseline": 16, "scalar": 4}  # bytes of a store


def stepped(case, use_locking):
    """How far each element is after all threads' steps; each names every second row."""
    table = tf.Variable(tf.zeros([ROWS, WIDTH]))
    options = moves_by_one(case)
    optimizer = models.ours(case, 1.0, use_locking=use_locking, **options)
    optimizer.build([table])
    ids = tf.constant([*range(0, ROWS, 2), 0])

    @tf.function
    def step():
        rows = tf.ones([len(ids), WIDTH])
        slices = tf.IndexedSlices(rows, ids, tf.constant([ROWS, WIDTH]))
        optimizer.apply_gradients([(slices, table)])

    assert served.locking(step.get_concrete_function()) == [use_locking]
    failures = []

    def work():
        try:
            for _ in range(STEPS):
                step()
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert int(optimizer.iterations) == THREADS * STEPS
    return -table.numpy()


@counters
def test_with_locks_every_step_counts_once(case):
    moved = stepped(case, True)
    assert (moved[::2] == THREADS * STEPS).all()
    assert not moved[1::2].any()


@pytest.mark.skipif(os.cpu_count() == 1, reason="one core: steps hardly ever meet")
@counters
def test_without_locks_steps_meet(case):
    """They share what others hold alone. If they waited, none would ever be lost."""
    for _ in range(50):
        if (stepped(case, False)[::2] < THREADS * STEPS).any():
            return
    pytest.fail("no step of many was lost")


@counters
def test_without_locks_a_row_is_torn_between_stores_alone(case):
    """Steps may be lost, in each store of a row apart; none is half done.

    Where a store is a cache line, no cache line is torn.
    """
    moved = stepped(case, False)
    assert not moved[1::2].any()
    assert (moved == np.round(moved)).all()
    assert ((moved[::2] >= 1) & (moved[::2] <= THREADS * STEPS)).all()
    width = STORE[library.native().build_info()["isa"]] // 4
    stores = moved.reshape(ROWS, -1, width)
    assert (stores == stores[..., :1]).all()


@richest
def test_it_is_part_of_the_configuration(case):
    assert models.ours(case).get_config()["use_locking"] is True
    optimizer = models.ours(case, use_locking=False)
    config = optimizer.get_config()
    assert config["use_locking"] is False
    assert type(optimizer).from_config(config).use_locking is False


@pytest.mark.parametrize("value", [None, 1, "yes"])
def test_it_must_be_true_or_false(value):
    with pytest.raises(ValueError, match="`use_locking` must be True or False. Rec"):
        tf_optim.Adam(use_locking=value)
