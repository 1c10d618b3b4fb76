"""What Nadam's class hands to its op: mu of the step and the next, and their product.

Here in exact arithmetic; tests of the raw op feed it with what the reference has.
"""

import decimal

import numpy as np
import pytest
import tensorflow as tf

import tf_optim
from tests.marks import both_flavours, both_ways
from tf_optim import library

pytestmark = both_flavours

BETA_1 = 0.9


def exact(steps):
    """(mu_t, mu_{t+1}, mu_1 ... mu_t) for t = 1, 2, ..., of beta_1 and 0.96 as
    floats hold them, to 60 digits."""
    beta_1, base = decimal.Decimal(BETA_1), decimal.Decimal(0.96)
    product, rows = decimal.Decimal(1), []
    with decimal.localcontext(prec=60):
        for t in range(1, steps + 1):
            mu, after = (beta_1 * (1 - base**i / 2) for i in (t, t + 1))
            product *= mu
            rows.append((float(mu), float(after), float(product)))
    return rows


@pytest.fixture
def handed(monkeypatch):
    """What steps hand to the op from here on."""
    found = []
    op = library.ops().tf_optim_bundle_apply_nadam

    def spy(**inputs):
        names = ("mu", "mu_next", "mu_product")
        found.append([tf.convert_to_tensor(inputs[name]) for name in names])
        return op(**inputs)

    monkeypatch.setattr(library.ops(), "tf_optim_bundle_apply_nadam", spy)
    return found


def test_first_steps_by_hand(handed):
    """0.9 * (1 - 0.5 * 0.96^t): Dozat's numbers."""
    var = tf.Variable([1.0])
    optimizer = tf_optim.Nadam(beta_1=BETA_1)
    for _ in range(3):
        optimizer.apply_gradients([(tf.constant([1.0]), var)])
    expected = [
        [0.468, 0.48528, 0.468],
        [0.48528, 0.5018688, 0.22711104],
        [0.5018688, 0.517794048, 0.113979945],
    ]
    np.testing.assert_allclose(handed, expected, rtol=1e-8)


@both_ways
def test_many_steps_are_exact(handed, graph):
    var = tf.Variable([1.0])
    optimizer = tf_optim.Nadam(beta_1=BETA_1)
    optimizer.build([var])

    def step():
        optimizer.apply_gradients([(tf.constant([1.0]), var)])
        return handed[-1]

    step = tf.function(step) if graph else step
    # From step 1,025 on the product is known to be beta_1 times the last.
    rows = exact(2000)
    for done in (0, 1, 9, 99, 999, 1999):
        optimizer.iterations.assign(done)
        np.testing.assert_allclose(step(), rows[done], rtol=1e-11)


@pytest.mark.filterwarnings("ignore:`schedule_decay`:DeprecationWarning")
def test_schedule_decay_is_in_the_exponent(handed):
    var = tf.Variable([1.0])
    optimizer = tf_optim.Nadam(beta_1=BETA_1, schedule_decay=2.0)
    optimizer.apply_gradients([(tf.constant([1.0]), var)])
    expected = [0.9 * (1 - 0.5 * 0.96**2), 0.9 * (1 - 0.5 * 0.96**4)]
    np.testing.assert_allclose(handed[0], [*expected, expected[0]], rtol=1e-12)


def test_stock_goes_on_from_a_file_that_does_not_hold_the_product(tmp_path):
    """Of tf_keras: ours works it out from the number of steps, and hands it over."""

    def train(model, steps):
        for step in steps:
            rng = np.random.default_rng(step)
            x = rng.normal(size=(8, 4)).astype("float32")
            model.train_on_batch(x, x[:, :2])

    def made(optimizer):
        tf.keras.utils.set_random_seed(0)
        model = tf.keras.Sequential(
            [tf.keras.layers.InputLayer((4,)), tf.keras.layers.Dense(2)]
        )
        model.compile(optimizer, "mse", run_eagerly=True)
        return model

    stock, ours = made(tf.keras.optimizers.Nadam(0.05)), made(tf_optim.Nadam(0.05))
    train(stock, range(8))
    train(ours, range(4))
    ours.save(tmp_path / "model.keras")
    loaded = tf.keras.models.load_model(tmp_path / "model.keras")
    loaded.compile(tf_optim.unfuse(loaded.optimizer), "mse", run_eagerly=True)
    train(loaded, range(4, 8))
    for one, other in zip(loaded.get_weights(), stock.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
