"""Rounding at random, of slots: right in the mean, and no two draws alike.

The numbers that are drawn are seen in what they do: a slot that lies between two
neighbours of its format is stored as the upper one where the draw is large.
"""

import numpy as np
import pytest

from tests import cases, packed_codes
from tests.arrays import native
from tests.packed_native_test import filled, read

# The betas under which moments decay.
DECAYS = {"momentum": 0.999, "velocity": 0.998}
ADAM = cases.Case(next(o for o in cases.OPTIMIZERS if o.name == "Adam"), "plain")
BLOCK = packed_codes.BLOCK
ERRORS = 5  # standard errors within which a mean must lie
formats = pytest.mark.parametrize("name", ["bfloat16", "int8"])


def step(case, slots, grad, iterations, hyper=None, **options):
    native.dense_apply(
        rule=case.rule,
        var=[np.zeros_like(grad)],
        slots={key: [value] for key, value in slots.items()},
        grad=[grad],
        hyper=case.op_hyper(0) | (hyper or {}),
        flags=case.flags,
        learning_rate=1.0,
        iterations=iterations,
        **options,
    )


def assert_mean(received, expected, what):
    """Rows are independent of each other, whatever the elements of one are."""
    means = received.mean(axis=1)
    error = ERRORS * means.std(ddof=1) / np.sqrt(len(means))
    assert error > 0
    assert abs(means.mean() - expected) < error, what


def decayed(name, steps, **options):
    """Adam's moments with no gradient but for the first column, which stays.

    In 8 bits that is the largest of the row, of which the others are shares.
    """
    slots = {key: filled((800, BLOCK), name) for key in DECAYS}
    grad = np.full((800, BLOCK), 1.25, np.float32)
    grad[:, 0] = 5.0
    step(ADAM, slots, grad, 0, {"beta_1": 0.0, "beta_2": 0.0})
    grad[:, 1:] = 0.0
    hyper = {"beta_1": DECAYS["momentum"], "beta_2": DECAYS["velocity"]}
    for iterations in range(1, steps + 1):
        step(ADAM, slots, grad, iterations, hyper, **options)
    signed = {"momentum": False, "velocity": True}
    return {key: read(slots[key], grad.shape, signed[key]) for key in DECAYS}


@formats
def test_slots_that_decay_by_less_than_half_a_last_place(name):
    """20 steps of a tenth and of two tenths of a hundredth, 10^5 times at once.

    Half a last place is three tenths of a hundredth in bfloat16, 3 hundredths in int8.
    """
    start = {"momentum": 1.25, "velocity": 1.25**2}
    to_nearest, at_random = decayed(name, 20), decayed(name, 20, rounding_seeds=[3])
    for key, decay in DECAYS.items():
        assert (to_nearest[key][:, 1:] == start[key]).all()
        assert (at_random[key][:, 0] == to_nearest[key][:, 0]).all()
        assert_mean(at_random[key][:, 1:], start[key] * decay**20, key)


@formats
def test_the_mean_is_right_at_all_magnitudes(name):
    """Down to the smallest share of the row's largest that a code stands for."""
    slots = {key: filled((20_000, BLOCK), name) for key in DECAYS}
    grad = np.exp2(-np.linspace(0, 15.4, BLOCK)).astype(np.float32)
    hyper = {"beta_1": 0.0, "beta_2": 0.0}
    shape = (20_000, BLOCK)
    step(ADAM, slots, np.tile(grad, (shape[0], 1)), 0, hyper, rounding_seeds=[9])
    for key, plain in {"momentum": grad, "velocity": grad * grad}.items():
        stored = read(slots[key], shape, key == "velocity")
        error = ERRORS * stored.std(axis=0) / np.sqrt(shape[0])
        assert (error > 0).mean() > 0.9
        assert (np.abs(stored.mean(axis=0) - plain) <= error + 1e-6 * plain).all(), key


# --- what is drawn


def uppers(name, share, seed=1, steps=(0,), slot="momentum", rows=256):
    """Whether slots became the upper neighbour: [steps, rows, elements of a block].

    Args:
        share: where they lie between the lower neighbour and the upper.
        slot: "momentum", which is signed, or "velocity".
    """
    low = 1.0
    high = 1 + (2.0**-7 if name == "bfloat16" else 2.0**-3)
    plain = np.full((rows, BLOCK), low + share * (high - low), np.float32)
    plain[:, 0] = 4.0  # in 8 bits the scale
    grad = plain if slot == "momentum" else np.sqrt(plain)
    found = []
    for iterations in steps:
        slots = {key: filled(grad.shape, name) for key in DECAYS}
        hyper = {"beta_1": 0.0, "beta_2": 0.0}
        step(ADAM, slots, grad, iterations, hyper, rounding_seeds=[seed])
        stored = read(slots[slot], grad.shape, slot == "velocity")[:, 1:]
        assert set(np.unique(stored)) == {low, high}
        found.append(stored == high)
    return np.array(found)


def correlation(left, right):
    return np.corrcoef(left.ravel(), right.ravel())[0, 1]


@formats
def test_what_is_drawn_is_uniform(name):
    """The mean and the variance, of all and of each element of a block."""
    for share in (1 / 16, 0.5, 0.875):
        found = uppers(name, share, steps=range(8))
        assert_mean(found.reshape(-1, BLOCK - 1), share, share)
        each = found.mean(axis=(0, 1))
        count = found[..., 0].size
        error = np.sqrt(share * (1 - share) / count)
        assert np.abs(each - share).max() < ERRORS * error
        # Of means of `count` draws, each of which is one of its own.
        assert 0.7 < each.std() / error < 1.3
        for elements in (15, BLOCK - 1):
            means = found[..., :elements].mean(axis=-1)
            error = np.sqrt(share * (1 - share) / elements)
            assert 0.9 < means.std() / error < 1.1, elements


@formats
def test_what_is_drawn_is_not_correlated(name):
    """With its neighbours, other steps, other slots and other variables."""
    steps = range(5, 13)
    found = uppers(name, 0.5, steps=steps)
    error = ERRORS / np.sqrt(found.size)
    others = {
        "the next step": uppers(name, 0.5, steps=[i + 1 for i in steps]),
        "the next seed": uppers(name, 0.5, seed=2, steps=steps),
        "the other slot": uppers(name, 0.5, steps=steps, slot="velocity"),
    }
    for what, other in others.items():
        assert abs(correlation(found, other)) < error, what
    assert abs(correlation(found[:, 1:], found[:, :-1])) < 1.1 * error  # next block
    for apart in range(1, BLOCK - 1):
        later = found[..., apart:]
        between = correlation(later, found[..., :-apart])
        assert abs(between) < ERRORS / np.sqrt(later.size), apart
