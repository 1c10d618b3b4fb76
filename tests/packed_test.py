"""slot_dtype: slots in bfloat16 and 8 bits through Keras: built, saved, compiled.

What a step does to them is tests/packed_native_test.py's.
"""

import copy
import functools

import numpy as np
import pytest
import tensorflow as tf

import tf_optim
from tests import cases, models
from tests.marks import both_flavours
from tf_optim import keras_private, packed, specs

pytestmark = both_flavours

ROWS, WIDTH = 64, 80
NAMES = ["bfloat16", "int8"]
by_name = pytest.mark.parametrize("name", NAMES)
NEAR = {"bfloat16": 2.0**-8, "int8": 1 / 16}  # half a step, of the number itself
CASES = [
    (case, name)
    for case in cases.RICHEST
    for name in specs.SPECS[case.name].slot_dtypes
    if name != "float32"
]
by_case = pytest.mark.parametrize(("case", "name"), CASES, ids=str)


def table(dtype="float32"):
    start = np.random.default_rng(0).normal(size=(ROWS, WIDTH))
    return tf.Variable(start, dtype=dtype, name="table")


def gradients(count, sparse, seed=1):
    rng = np.random.default_rng(seed)
    for _ in range(count):
        if not sparse:
            yield tf.constant(rng.normal(size=(ROWS, WIDTH)), tf.float32)
            continue
        ids = rng.integers(ROWS // 2, size=20)
        yield models.slices(ids, rng.normal(size=(20, WIDTH)).astype("float32"), ROWS)


def trained(optimizer, variable, count=5, sparse=False, function=None, seed=1):
    def step(gradient):
        optimizer.apply_gradients([(gradient, variable)])

    optimizer.build([variable])
    if function is not None:
        step = tf.function(step, jit_compile=function == "jit")
    for gradient in gradients(count, sparse, seed):
        step(gradient)
    return optimizer


def slots(optimizer, variable):
    made = keras_private.slots_of(optimizer, variable)
    return [slot for slot in made if slot is not None]


def bits(optimizer, variable):
    raw = [
        tf.raw_ops.ReadVariableOp(resource=s.handle, dtype=packed.storage_of(s)[1])
        for s in slots(optimizer, variable)
    ]
    return [
        variable.numpy().tobytes(),
        *(tf.io.serialize_tensor(r).numpy() for r in raw),
    ]


@by_case
def test_every_slot_is_packed_and_looks_like_float32(case, name):
    variable = table()
    optimizer = models.ours(case, slot_dtype=name)
    optimizer.build([variable])
    for slot in slots(optimizer, variable):
        if slot.shape.rank == 1:  # one number per row
            continue
        assert packed.is_packed(slot)
        assert slot.dtype == tf.float32
        assert slot.shape == variable.shape
        assert packed.storage_of(slot)[1] == (
            tf.bfloat16 if name == "bfloat16" else tf.uint8
        )
        value = np.random.default_rng(3).uniform(0.5, 1, size=(ROWS, WIDTH))
        slot.assign(value)
        np.testing.assert_allclose(slot.numpy(), value, rtol=NEAR[name])
        once = slot.numpy()
        slot.assign(once)
        np.testing.assert_array_equal(slot.numpy(), once)
        np.testing.assert_array_equal(tf.gather(slot, [3, 1]), once[[3, 1]])
        slot.assign_add(tf.ones_like(slot))
        np.testing.assert_allclose(slot.numpy(), once + 1, rtol=NEAR[name])
        with pytest.raises(NotImplementedError, match="set it with `assign`"):
            slot.scatter_add(tf.IndexedSlices(once[:1], [0]))


def assert_stays_near(make, name, sparse, most=0.1):
    plain, ours = table(), table()
    trained(make(), plain, 20, sparse)
    trained(make(slot_dtype=name), ours, 20, sparse)
    moved = np.abs(plain.numpy() - table().numpy()).mean()
    apart = np.abs(plain.numpy() - ours.numpy()).mean()
    assert 0 < apart < most * moved


@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
@by_case
def test_training_stays_near_that_of_float32_slots(case, name, sparse):
    # Lion's step is a sign: where its momentum is near 0 rounding turns it.
    most = 0.2 if case.name == "Lion" else 0.1
    assert_stays_near(functools.partial(models.ours, case), name, sparse, most)


@by_name
@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
@pytest.mark.parametrize("make", [tf_optim.SM3, tf_optim.NovoGrad])
def test_training_stays_near_where_a_step_is_no_rule(make, name, sparse):
    assert_stays_near(functools.partial(make, 0.01), name, sparse)


@by_name
@pytest.mark.parametrize("mode", ["lazy", "dense"])
def test_the_same_bits_in_a_function_and_under_xla(name, mode):
    results = []
    for function in (None, "function", "jit"):
        for sparse in (False, True):
            variable = table()
            optimizer = tf_optim.Adam(0.01, slot_dtype=name, sparse_update=mode)
            trained(optimizer, variable, 3, sparse, function)
            results.append((sparse, bits(optimizer, variable)))
    for sparse in (False, True):
        first, *others = [each for kind, each in results if kind == sparse]
        assert all(other == first for other in others)


@by_name
def test_resumed_training_ends_in_the_same_bits(name, tmp_path):
    whole, first, second = table(), table(), table()

    def make():
        return tf_optim.Adam(0.01, slot_dtype=name)

    optimizer = trained(make(), whole, 3)
    trained(optimizer, whole, 3, seed=2)
    half = trained(make(), first, 3)
    path = tf.train.Checkpoint(v=first, optimizer=half).write(str(tmp_path / "state"))
    resumed = make()
    resumed.build([second])
    tf.train.Checkpoint(v=second, optimizer=resumed).read(path).assert_consumed()
    trained(resumed, second, 3, seed=2)
    assert bits(resumed, second) == bits(optimizer, whole)


@by_name
def test_a_checkpoint_is_that_of_float32_slots(name, tmp_path):
    """Both ways, and through get_weights and set_weights, to within half a step."""
    near = NEAR[name]
    plain = table()
    float32 = trained(tf_optim.Adam(0.01), plain)
    path = tf.train.Checkpoint(optimizer=float32).write(str(tmp_path / "float32"))
    ours = tf_optim.Adam(0.01, slot_dtype=name)
    ours.build([plain])
    tf.train.Checkpoint(optimizer=ours).read(path).assert_consumed()
    for slot, other in zip(slots(ours, plain), slots(float32, plain), strict=True):
        assert (slot.numpy() != other.numpy()).any()
        least = 2.0**-15 * np.abs(other.numpy()).max() if name == "int8" else 0
        np.testing.assert_allclose(slot.numpy(), other.numpy(), rtol=near, atol=least)
    path = tf.train.Checkpoint(optimizer=ours).write(str(tmp_path / "ours"))
    back = tf_optim.Adam(0.01)
    back.build([plain])
    tf.train.Checkpoint(optimizer=back).read(path).assert_consumed()
    for slot, other in zip(slots(back, plain), slots(ours, plain), strict=True):
        np.testing.assert_array_equal(slot.numpy(), other.numpy())
    again = tf_optim.Adam(0.01, slot_dtype=name)
    again.build([plain])
    again.set_weights(back.get_weights())
    assert bits(again, plain) == bits(ours, plain)


def test_a_model_is_saved_and_loaded(tmp_path):
    def policy():
        return {"table": "int8", "dense": "bfloat16"}

    model = models.compiled(
        models.recommender(rows=200, width=32), tf_optim.Adam(slot_dtype=policy())
    )
    x, y = models.recommender_data(rows=200)
    model.fit(x, y, epochs=2, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = tf.keras.models.load_model(tmp_path / "model.keras")
    assert loaded.optimizer.slot_dtype == policy()
    for new, old in zip(
        loaded.trainable_variables, model.trainable_variables, strict=True
    ):
        assert bits(loaded.optimizer, keras_private.raw(new)) == bits(
            model.optimizer, keras_private.raw(old)
        )
    history = loaded.fit(x, y, epochs=1, verbose=0).history["loss"]
    assert np.isfinite(history).all()


@tf.keras.utils.register_keras_serializable(package="tests")
def eight_bits_for_tables(variable):
    return "int8" if variable.shape[-1] == 32 else "float32"


def test_a_model_whose_dtypes_a_function_chooses(tmp_path):
    model = models.recommender(rows=200, width=32)
    optimizer = tf_optim.Adam(slot_dtype=eight_bits_for_tables)
    models.compiled(model, optimizer)
    model.fit(*models.recommender_data(rows=200), verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = tf.keras.models.load_model(tmp_path / "model.keras")
    assert loaded.optimizer.slot_dtype is eight_bits_for_tables
    saved = tf.keras.optimizers.serialize(optimizer)
    again = tf.keras.optimizers.deserialize(saved)
    assert again.slot_dtype is eight_bits_for_tables


def test_a_copy_is_one_of_its_own():
    variable = table()
    optimizer = trained(tf_optim.Adam(0.01, slot_dtype="int8"), variable)
    (slot, _) = slots(optimizer, variable)
    other = copy.deepcopy(slot)
    np.testing.assert_array_equal(other.numpy(), slot.numpy())
    slot.assign(tf.zeros_like(slot))
    assert np.abs(other.numpy()).max() > 0


def test_exact_with_packed_slots():
    """Idle rows decay in their slots as those that a step names."""
    variable, other = table(), table()
    tf_optim.lookup(variable, [0])
    options = {"slot_dtype": "int8", "weight_decay": 0.01}
    exact = tf_optim.Adam(0.01, sparse_update="exact", **options)
    dense = tf_optim.Adam(0.01, sparse_update="dense", **options)
    trained(dense, other, 8, True)
    exact.build([variable])
    for gradient in gradients(8, True):
        tf_optim.lookup(variable, gradient.indices)
        exact.apply_gradients([(gradient, variable)])
    moved = np.abs(other.numpy() - table().numpy()).mean()
    assert moved > 0
    assert np.abs(variable.numpy() - other.numpy()).mean() < 0.05 * moved


def test_small_variables_keep_float32():
    shapes = {"bias": (5000,), "narrow": (5000, 4), "small": (10, 80), "wide": (64, 80)}
    made = [tf.Variable(tf.zeros(shape), name=name) for name, shape in shapes.items()]
    optimizer = tf_optim.Adam(slot_dtype="int8")
    optimizer.build(made)
    kinds = [packed.is_packed(slots(optimizer, v)[0]) for v in made]
    assert kinds == [False, False, False, True]
    optimizer.apply_gradients([(tf.ones_like(v), v) for v in made])


def test_each_variable_may_have_its_own():
    made = [
        tf.Variable(tf.zeros([16, 16]), name=name) for name in ("one", "two", "three")
    ]
    for policy in (
        {"one": "int8", "tw": "bfloat16"},
        lambda v: {"one": "int8", "two": "bfloat16"}.get(v.name[:3], "float32"),
    ):
        optimizer = tf_optim.Adam(slot_dtype=policy)
        optimizer.build(made)
        dtypes = [packed.storage_of(slots(optimizer, v)[0])[1] for v in made]
        assert dtypes == [tf.uint8, tf.bfloat16, tf.float32]
        optimizer.apply_gradients([(tf.ones_like(v), v) for v in made])


def test_sixteen_bit_variables_round_at_random_when_asked():
    """Steps of a tenth of a last place: none is seen, or their sum is."""
    start = 0.75 * np.ones((ROWS, WIDTH))
    for asked, moved in ((None, 0.0), (False, 0.0), (True, 20 * 2.0**-8 / 10)):
        variable = tf.Variable(start, dtype=tf.bfloat16)
        optimizer = tf_optim.SGD(2.0**-8 / 10, stochastic_rounding=asked)
        gradient = tf.ones([ROWS, WIDTH], tf.bfloat16)
        for _ in range(20):
            optimizer.apply_gradients([(gradient, variable)])
        change = 0.75 - variable.numpy().astype("float64").mean()
        assert abs(change - moved) <= 0.02 * moved


def test_memory_report():
    made = [
        tf.Variable(tf.zeros([1000, 64]), name="table"),
        tf.Variable(tf.zeros([64])),
    ]
    optimizer = tf_optim.Adam(slot_dtype="int8")
    optimizer.build(made)
    report = tf_optim.memory_report(optimizer)
    of_table, of_bias = report
    assert of_table.bytes == 4 * 64_000
    assert of_table.slots == (
        ("momentum", "int8", 68_000),
        ("velocity", "int8", 68_000),
    )
    assert of_bias.slots == (("momentum", "float32", 256), ("velocity", "float32", 256))
    assert report.bytes_of_slots == 2 * 68_000 + 512
    assert report.others == {
        "float32": 8 * 64_000 + 512,
        "bfloat16": 4 * 64_000 + 256,
        "int8": 2 * 68_000 + 512,
    }
    assert "table" in str(report)
    assert "132.8 KiB" in str(report)
    with pytest.raises(ValueError, match="must be built"):
        tf_optim.memory_report(tf_optim.Adam())
    with pytest.raises(ValueError, match="must be one of tf_optim's"):
        tf_optim.memory_report(tf.keras.optimizers.SGD())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: tf_optim.Adam(slot_dtype="int4"), "must be one of 'float32'"),
        (lambda: tf_optim.Adam(slot_dtype={"(": "int8"}), "regular expressions"),
        (lambda: tf_optim.Adam(slot_dtype={"a": "half"}), "must be one of 'float32'"),
        (lambda: tf_optim.Adam(stochastic_rounding=1.5), "True, False or None"),
        (lambda: tf_optim.Adam(stochastic_rounding=0), "True, False or None"),
        (lambda: tf_optim.Adagrad(slot_dtype="int8"), "only grows"),
        (lambda: tf_optim.Ftrl(slot_dtype="bfloat16"), "from its slots"),
        (lambda: tf_optim.RowWiseAdagrad(slot_dtype="int8"), "one number per row"),
    ],
)
def test_wrong_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_options_that_are_set_later():
    """They are checked as the constructor's arguments are."""
    optimizer, variable = tf_optim.Adam(), table()
    with pytest.raises(ValueError, match="must be one of 'float32'"):
        optimizer.slot_dtype = "int4"
    optimizer.slot_dtype = "int8"
    optimizer.build([variable])
    assert packed.storage_of(slots(optimizer, variable)[0])[1] == tf.uint8
    with pytest.raises(ValueError, match="before the optimizer is built"):
        optimizer.slot_dtype = "float32"
    for name in ("stochastic_rounding", "use_locking"):
        with pytest.raises(ValueError, match=f"`{name}` must be .*Received.*'yes'"):
            setattr(optimizer, name, "yes")
        setattr(optimizer, name, np.False_)
        assert getattr(optimizer, name) is False
    assert optimizer.get_config()["slot_dtype"] == "int8"


def test_numpys_false_is_no_rounding_at_random():
    """It is not the object False."""
    found = []
    for asked in (np.False_, False):
        optimizer, variable = tf_optim.Adam(slot_dtype="int8"), table()
        optimizer.stochastic_rounding = asked
        found.append(bits(trained(optimizer, variable), variable))
    assert found[0] == found[1]


def test_variables_that_cannot_be():
    wide = tf.Variable(tf.zeros([100, 100], tf.float64))
    with pytest.raises(ValueError, match="must be float64"):
        tf_optim.Adam(slot_dtype="int8").build([wide])
    narrow = tf.Variable(tf.zeros([5000, 2]), name="narrow")
    with pytest.raises(ValueError, match="at least 8 elements"):
        tf_optim.Adam(slot_dtype={"narrow": "int8"}).build([narrow])
    with pytest.raises(ValueError, match="must be one of 'float32'"):
        tf_optim.Adam(slot_dtype=lambda v: "int2").build([narrow])


def test_strategies_that_cannot_have_packed_slots():
    strategy = tf.distribute.experimental.CentralStorageStrategy()
    with strategy.scope():
        variable = tf.Variable(tf.ones([600, 8]))
        with pytest.raises(ValueError, match="other than MirroredStrategy"):
            tf_optim.Adam(slot_dtype="int8").build([variable])
