"""The ops of Adafactor's second moment against float64, and against TensorFlow's."""

import numpy as np
import pytest
import tensorflow as tf

import tf_optim
from tests import models
from tf_optim import library, pages

# A piece has 2^17 elements; matrices are cut, or several of them are one piece.
SHAPES = [
    (),
    (1,),
    (7,),
    (200_000,),
    (3, 5),
    (1, 1),
    (300, 17),
    (5, 3, 4),
    (3, 3, 40, 50),
    (2, 700, 300),
    (5000, 40),
    (3, 70_000),
    (40_000, 2, 3),
    (131_073, 1),
    (2, 131_073, 1),
    (0, 8),
    (8, 0),
]


def rows_of(shape):
    return shape[:-1] if len(shape) > 1 else shape


def columns_of(shape):
    return shape[:-2] + shape[-1:] if len(shape) > 1 else ()


def drawn(dtype, seed=0):
    """Gradients, and means of their rows and columns."""
    rng = np.random.default_rng(seed)
    grads = [np.asarray(rng.normal(size=shape), dtype) for shape in SHAPES]
    rows = [np.asarray(rng.random(rows_of(shape)), dtype) for shape in SHAPES]
    columns = [np.asarray(rng.random(columns_of(shape)), dtype) for shape in SHAPES]
    return grads, rows, columns


def both_ops(grads, rows, columns, share=0.3, epsilon=1e-3):
    ops = library.ops()
    after = ops.tf_optim_adafactor_means(
        grad=grads, rows=rows, columns=columns, share=share, epsilon=epsilon
    )
    turned = ops.tf_optim_adafactor_steps(
        grad=grads, rows=after.rows_after, columns=after.columns_after
    )
    return after.rows_after, after.columns_after, turned.steps, turned.squares


def expected(g, rows, columns, share=0.3, epsilon=1e-3):
    g, rows, columns = np.float64(g), np.float64(rows), np.float64(columns)
    square = g**2 + epsilon
    if g.ndim < 2:
        rows = rows + share * (square - rows)
        step = g / np.sqrt(rows)
    else:
        rows = rows + share * (np.mean(square, -1) - rows)
        columns = columns + share * (np.mean(square, -2) - columns)
        share_of_row = rows / np.mean(rows, -1, keepdims=True)
        step = g / np.sqrt(share_of_row[..., None] * columns[..., None, :])
    return rows, columns, step, np.sum(step**2)


@pytest.mark.parametrize("dtype, rtol", [("float32", 3e-6), ("float64", 1e-13)])
def test_are_the_formula(dtype, rtol):
    arguments = drawn(dtype)
    received = zip(*both_ops(*arguments), strict=True)
    for shape, mine, *own in zip(SHAPES, received, *arguments, strict=True):
        if 0 in shape:
            continue
        for ours, wanted in zip(mine, expected(*own), strict=True):
            assert ours.shape == np.shape(wanted)
            np.testing.assert_allclose(ours, wanted, rtol=rtol, err_msg=str(shape))


def test_nothing_moves_where_there_is_nothing():
    _, rows, columns = drawn("float32")
    received = both_ops(*drawn("float32"))
    for i, (row, column, step, square) in enumerate(zip(*received, strict=True)):
        if 0 in SHAPES[i]:
            np.testing.assert_array_equal(row, rows[i])
            np.testing.assert_array_equal(column, columns[i])
            assert tuple(step.shape) == SHAPES[i] and float(square) == 0


def test_millions_of_squares_are_added_up_in_float64():
    """In float32 ones were lost from 2^24 on, and 0.1 much earlier."""
    grad = np.full((1 << 21, 9), 0.1, np.float32)
    square = np.float64(grad[0, 0]) ** 2
    rows, columns = np.zeros(1 << 21, np.float32), np.zeros(9, np.float32)
    _, after, _, _ = both_ops([grad], [rows], [columns], share=1.0, epsilon=0.0)
    np.testing.assert_allclose(after[0], np.full(9, square), rtol=1e-6)


@pytest.mark.parametrize(
    "change",
    [
        {"rows": [np.ones(4, np.float32)]},
        {"columns": [np.ones(3, np.float32)]},
        {"columns": [np.ones([1, 4], np.float32)]},
        {"share": [0.5]},
    ],
    ids=lambda change: next(iter(change)),
)
def test_other_shapes_are_errors(change):
    right = {
        "grad": [np.ones([3, 4], np.float32)],
        "rows": [np.ones(3, np.float32)],
        "columns": [np.ones(4, np.float32)],
        "share": 0.5,
        "epsilon": 0.0,
    }
    with pytest.raises(tf.errors.InvalidArgumentError, match="must .* Received"):
        library.ops().tf_optim_adafactor_means(**right | change)


@pytest.mark.parametrize("graph", [False, True])
def test_steps_are_those_of_tensorflows_operations(graph, monkeypatch):
    """As a GPU takes them, and XLA."""
    shapes = ((7, 5), (5,), (3, 2, 4), (), (300, 600), (0, 3))
    after = []
    for has_op in (True, False):
        monkeypatch.setattr(pages, "is_on_cpu", lambda device, has=has_op: has)
        optimizer = tf_optim.Adafactor(0.1, clip_threshold=0.9, weight_decay=0.01)
        var_list = models.variables(shapes)
        models.train(optimizer, var_list, models.gradients(5, shapes), graph)
        after.append([v.numpy() for v in (*var_list, *optimizer._variables)])
    for ours, composed in zip(*after, strict=True):
        np.testing.assert_allclose(ours, composed, rtol=2e-5, atol=1e-7)
