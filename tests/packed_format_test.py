"""The formats of packed slots: all magnitudes that float32 has, shapes of any kind."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import cases, numerics, packed_codes
from tests.arrays import ISAS, native
from tests.packed_native_test import filled, read
from tf_optim import packed

ADAMAX = cases.Case(next(o for o in cases.OPTIMIZERS if o.name == "Adamax"), "plain")
TINY = float(np.finfo(np.float32).tiny)  # what is smaller may be 0
MOST = float(np.finfo(np.float32).max)
SPECIAL = [0.0, -0.0, 1e-45, -1e-45, TINY / 2, TINY, -TINY, MOST, -MOST]
SPECIAL += [np.nan, np.inf, -np.inf]
kinds = pytest.mark.parametrize("kind", ["bfloat16", "signed", "unsigned"])


def codec_of(kind, shape):
    """What variables pack and unpack slots with."""
    if kind == "bfloat16":
        return packed._BFloat16(shape)
    return packed._EightBits(shape, kind == "signed")


def scales(plain):
    """For each element the largest finite magnitude of its block."""
    size = np.where(np.isfinite(plain), np.abs(plain), 0.0)
    starts = np.arange(0, size.shape[1], packed_codes.BLOCK)
    largest = np.maximum.reduceat(size, starts, axis=1)
    return np.repeat(largest, packed_codes.BLOCK, axis=1)[:, : size.shape[1]]


def assert_near(plain, stored, kind, at_random=False):
    """Asserts that `stored` is `plain` as docs/memory.md says, of rows.

    Rounded at random a number may be a whole step of the format away, and to nearest
    half a step.
    """
    plain, stored = (np.asarray(each, np.float64) for each in (plain, stored))
    steps = 1.000001 if not at_random else 2.000002
    finite = np.isfinite(plain)
    if kind == "bfloat16":
        last = 2.0**127 * (2 - 2.0**-7)
        up = finite & np.isinf(stored)
        assert (np.abs(plain[up]) > last).all()
        np.testing.assert_array_equal(stored[~finite], plain[~finite])
        finite &= ~up
        floor, share = np.zeros_like(plain), 2.0**-8
    else:
        assert np.isnan(stored[~finite]).all()
        smallest = packed_codes.values(kind == "signed")[1]
        floor, share = smallest * scales(plain), 1 / 16
    plain, stored, floor = (each[finite] for each in (plain, stored, floor))
    error = np.abs(stored - plain)
    assert (error <= steps * share * np.abs(plain) + floor * steps + TINY).all()
    assert (stored[plain == 0] == 0).all()
    assert (stored * plain >= 0).all()
    if kind == "unsigned":
        # Of a share that float32 has. What a share stands for may be a denormal.
        is_share = (plain >= TINY) & (plain * 2.0**125 >= floor / smallest)
        assert (stored[is_share & (floor >= TINY)] > 0).all()


def magnitudes():
    """A row for each exponent, down to denormals; three blocks of growing spread."""
    rng = np.random.default_rng(1)
    exponents = np.arange(-149, 128)[:, None]
    spread = np.repeat([0, 20, 60], packed_codes.BLOCK)[:300]
    size = np.exp2(exponents - spread * rng.uniform(size=(len(exponents), 300)))
    return np.minimum(size * rng.uniform(1, 2, size=size.shape), MOST)


def with_signs(plain, kind):
    if kind == "unsigned":
        return np.abs(plain).astype(np.float32)
    signs = np.random.default_rng(2).choice([-1.0, 1.0], size=plain.shape)
    return (plain * signs).astype(np.float32)


def test_a_negative_number_of_a_slot_that_has_none_is_the_least_share():
    """As it would come from a checkpoint of something else: neither 0 nor -x."""
    plain = np.array([[1.0, -0.5, 0.0, -0.0, -1e-30, 2.0**-40]], np.float32)
    plain = np.tile(plain, (1, 40))  # vectors and what is left behind them
    codec = codec_of("unsigned", plain.shape)
    stored = codec.unpack(codec.pack(plain)).numpy()
    least = packed_codes.values(False)[1]
    np.testing.assert_array_equal(
        stored, np.tile([[1.0, least, 0.0, 0.0, least, least]], (1, 40))
    )


@kinds
def test_all_magnitudes(kind):
    plain = with_signs(magnitudes(), kind)
    codec = codec_of(kind, plain.shape)
    stored = codec.unpack(codec.pack(plain)).numpy()
    assert_near(plain, stored, kind)
    assert kind == "unsigned" or (np.signbit(stored) == np.signbit(plain)).all()
    again = codec.unpack(codec.pack(stored)).numpy()
    assert numerics.same_bits(again, stored)


@pytest.mark.parametrize("name", ["bfloat16", "int8"])
@pytest.mark.parametrize("at_random", [False, True])
@pytest.mark.parametrize("width", [9, 127, 128, 131, 300])
def test_all_magnitudes_in_a_step(name, at_random, width):
    """Adamax whose means forget all: a moment is the gradient, a norm its size.

    With numbers that are special at the ends of rows and of blocks.
    """
    signed = with_signs(magnitudes()[:, :width], "signed")
    places = sorted({0, 7, min(127, width - 1), min(128, width - 1), width - 1})
    for i, number in enumerate(SPECIAL):
        for j, place in enumerate(places):
            signed[20 * i + j, place] = number
    kinds_of = {"momentum": name, "norm": name}
    if name == "int8":
        kinds_of = {"momentum": "signed", "norm": "unsigned"}
    results = set()
    for isa in ISAS:
        slots = {key: filled(signed.shape, name) for key in kinds_of}
        native.dense_apply(
            rule=ADAMAX.rule,
            var=[np.zeros_like(signed)],
            slots={key: [value] for key, value in slots.items()},
            grad=[signed],
            hyper={"beta_1": 0.0, "beta_2": 0.0, "epsilon": 1.0},
            learning_rate=1.0,
            iterations=3,
            isa=isa,
            rounding_seeds=[5] if at_random else [],
        )
        results.add(b"".join(slot.tobytes() for slot in slots.values()))
    assert len(results) == 1
    for key, plain in {"momentum": signed, "norm": np.abs(signed)}.items():
        stored = read(slots[key], plain.shape, key == "norm")
        assert_near(plain, stored, kinds_of[key], at_random)
        if name == "int8" and not at_random:  # the op packs as a step does
            seen = np.where(np.abs(plain) < TINY, np.float32(0), plain)
            packed_by_op = codec_of(kinds_of[key], plain.shape).pack(seen).numpy()
            assert packed_by_op.tobytes() == slots[key].tobytes()


shapes = st.one_of(
    st.tuples(st.integers(0, 4), st.integers(1, 3 * packed_codes.BLOCK + 1)),
    st.tuples(st.integers(0, 3), st.integers(1, 5), st.integers(1, 60)),
    # Rows that end about where a block does.
    st.tuples(st.integers(1, 3), st.sampled_from([127, 128, 129, 255, 256, 257])),
)


@kinds
@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(shape=shapes, data=st.data())
def test_any_shape_and_any_numbers(kind, shape, data):
    """What is unpacked is near, and is packed into the same codes once more."""
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1), label="seed"))
    low, high = sorted(data.draw(st.tuples(*[st.integers(-150, 127)] * 2), label="2^"))
    size = rng.uniform(1, 2, size=shape) * np.exp2(rng.uniform(low, high, size=shape))
    plain = with_signs(np.minimum(size, MOST), kind)
    for number in data.draw(st.lists(st.sampled_from(SPECIAL), max_size=4)):
        if plain.size:
            number = abs(number) if kind == "unsigned" else number
            plain.flat[rng.integers(plain.size)] = number
    codec = codec_of(kind, shape)
    stored = codec.pack(plain)
    back = codec.unpack(stored).numpy()
    assert back.shape == shape
    again = codec.pack(back).numpy()
    assert numerics.same_bits(codec.unpack(again).numpy(), back)
    if 0 in shape:
        return
    rows = plain.reshape(shape[0], -1)
    assert_near(rows, back.reshape(rows.shape), kind)
    if kind != "bfloat16":
        same = again == stored.numpy()
        is_zero = back.reshape(rows.shape) == 0  # of a code for a denormal, too
        assert (same[:, : rows.shape[1]] | is_zero).all()
        assert same[:, rows.shape[1] :].all()
        meant = packed_codes.unpacked(
            stored.numpy(), rows.shape[1], kind == "signed"
        ).reshape(shape)
        np.testing.assert_allclose(back, meant, rtol=1e-6, atol=TINY)
