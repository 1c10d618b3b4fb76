"""The example of collaborative filtering: its feedback, its training, what it says."""

import collections

import numpy as np
import pytest
import tensorflow as tf

tqdm = pytest.importorskip("tqdm", reason="examples need pip install 'tf_optim[demo]'")
pytest.importorskip("matplotlib", reason="examples need pip install 'tf_optim[demo]'")

from examples import feedback, hit_rates, ncf  # noqa: E402
from tests.marks import both_flavours  # noqa: E402

SIZES = feedback.Sizes(users=300, items=200, seed=3)
SETTINGS = ncf.Settings(factors=4, batch=128, epochs=2, asked=100, learning_rate=0.01)


def quiet(*arguments, **options):
    return tqdm.tqdm(*arguments, **options, disable=True)


@pytest.fixture(scope="module")
def data():
    return feedback.draw(SIZES)


def pairs_of(array):
    return set(map(tuple, array.tolist()))


# --- feedback


def test_equal_seeds_give_equal_feedback(data):
    again = feedback.draw(SIZES)
    np.testing.assert_array_equal(again.train, data.train)
    np.testing.assert_array_equal(again.held_out, data.held_out)
    for one, other in zip(again.batches(1, 2), data.batches(1, 2), strict=True):
        np.testing.assert_array_equal(one, other)
    for one, other in zip(again.questions(50), data.questions(50), strict=True):
        np.testing.assert_array_equal(one, other)


def test_other_seeds_and_epochs_give_others(data):
    other = feedback.draw(feedback.Sizes(users=300, items=200, seed=4))
    assert pairs_of(other.train) != pairs_of(data.train)
    assert not np.array_equal(data.batches(0, 2)[1], data.batches(1, 2)[1])
    assert not np.array_equal(data.batches(0, 2)[1], data.batches(0, 2, seed=1)[1])


def test_a_pair_is_there_once_and_one_of_each_user_is_held_out(data):
    both = np.concatenate([data.train, data.held_out])
    assert len(pairs_of(both)) == len(both)
    users = collections.Counter(both[:, 0].tolist())
    several = {user for user, count in users.items() if count > 1}
    assert collections.Counter(data.held_out[:, 0].tolist()) == dict.fromkeys(
        several, 1
    )
    assert both.min() == 0 and (both.max(axis=0) < [data.users, data.items]).all()


def test_an_epoch_is_every_pair_and_negatives_that_are_none(data):
    users, items, labels = data.batches(0, 3)
    pairs = np.stack([users, items], axis=1)
    assert sorted(map(tuple, pairs[labels == 1].tolist())) == sorted(
        map(tuple, data.train.tolist())
    )
    assert not pairs_of(pairs[labels == 0]) & pairs_of(data.train)
    of_user = np.bincount(users[labels == 0], minlength=data.users)
    expected = 3 * np.bincount(data.train[:, 0], minlength=data.users)
    np.testing.assert_array_equal(of_user, expected)


def test_questions_hide_one_item_among_others_that_were_not_taken(data):
    users, items = data.questions(80, negatives=20)
    assert users.shape == items.shape == (80, 21)
    assert (users == users[:, :1]).all() and len(set(users[:, 0].tolist())) == 80
    first = np.stack([users[:, 0], items[:, 0]], axis=1)
    assert pairs_of(first) <= pairs_of(data.held_out)
    others = np.stack([users[:, 1:].ravel(), items[:, 1:].ravel()], axis=1)
    assert not pairs_of(others) & (pairs_of(data.train) | pairs_of(data.held_out))


def test_structure_is_planted(data):
    """What users took fits better than what they did not take."""
    users, items, labels = data.batches(0, 3)
    fits = data.affinity(users, items)
    assert fits[labels == 1].mean() > fits[labels == 0].mean() + 1


def test_popularity_is_skewed():
    counts = np.bincount(feedback.draw(SIZES).train[:, 1], minlength=SIZES.items)
    most = np.sort(counts)[::-1]
    assert most[: SIZES.items // 10].sum() > 0.2 * most.sum()


def test_a_user_of_everything_leaves_no_negatives():
    train = np.array([[0, 0], [0, 1], [1, 0]], np.int32)
    everything = feedback.Feedback(2, 2, train, train[:1])
    with pytest.raises(ValueError, match="some of the 2 items.* a user with 2"):
        everything.batches(0, 1)


def test_hit_rate():
    scores = np.array([[3.0, 1, 2], [1.0, 2, 3], [2.0, 3, 1], [1.0, 1, 1]])
    assert feedback.hit_rate(scores, best=1) == 0.25
    assert feedback.hit_rate(scores, best=2) == 0.5  # ties are lost
    assert feedback.hit_rate(scores, best=3) == 1.0


# --- a log


def read(tmp_path, text):
    path = tmp_path / "log.txt"
    path.write_text(text)
    return feedback.read_log(path)


def test_a_log_with_timestamps(tmp_path):
    """The last by time is held out; a second time of a pair counts for nothing."""
    read_ = read(
        tmp_path, "# a comment\nann x 30\nbob y 10\n\nann,y,20\nbob x 5\nann x 40\n"
    )
    assert (read_.users, read_.items) == (2, 2)
    assert pairs_of(read_.train) == {(0, 1), (1, 0)}
    assert pairs_of(read_.held_out) == {(0, 0), (1, 1)}


def test_a_log_without_timestamps_goes_by_lines(tmp_path):
    read_ = read(tmp_path, "1 7\n2 7\n1\t8\n1 9\n")
    assert pairs_of(read_.train) == {(0, 0), (0, 1), (1, 0)}
    assert pairs_of(read_.held_out) == {(0, 2)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 2\n3\n", "line 2: expected `user item .timestamp.`. Received: '3'"),
        ("1 2 3 4\n", "line 1: expected `user item .timestamp.`. Received: '1 2 3 4'"),
        ("1 2 5\n1 3 soon\n", "line 2: expected a number as the timestamp"),
        ("1 2 5\n1 3\n", "line 2: expected a timestamp on every line or on none"),
        ("1 2\n1 3 5\n", "line 2: expected a timestamp on every line or on none"),
        ("# nothing\n", "has none"),
        ("1 2\n2 3\n", "expected a user with two items"),
    ],
)
def test_a_bad_log_is_an_error_that_names_the_line(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        read(tmp_path, text)


def test_the_program_ends_with_that_error(tmp_path):
    path = tmp_path / "log.txt"
    path.write_text("one\n")
    with pytest.raises(SystemExit, match="--log: .*line 1: expected"):
        ncf.main(["--log", str(path), "--plot", str(tmp_path / "a.png")])


# --- training


@pytest.fixture
def double():
    """Models in float64, in which rounding stays small however it is amplified."""
    before = tf.keras.backend.floatx()
    tf.keras.backend.set_floatx("float64")
    tf.keras.mixed_precision.set_global_policy("float64")
    yield
    tf.keras.backend.set_floatx(before)
    tf.keras.mixed_precision.set_global_policy(before)


@both_flavours
def test_exact_ends_where_dense_does(data, double):
    """And "lazy" elsewhere, though all see the same start and batches."""
    lazy, dense, exact = ncf.run(data, SETTINGS, ["lazy", "dense", "exact"], quiet)
    assert lazy.hit_rates[0] == dense.hit_rates[0] == exact.hit_rates[0]
    assert exact.hit_rates == dense.hit_rates
    np.testing.assert_allclose(exact.losses, dense.losses, rtol=1e-7)
    weights = [run.model.get_weights() for run in (lazy, dense, exact)]
    for others, expected, found in zip(*weights, strict=True):
        assert expected.dtype == "float64"
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)
        assert np.abs(others - expected).max() > 1e-4


@both_flavours
def test_all_learn_and_what_came_out_is_shown(data, tmp_path, capsys):
    runs = ncf.run(data, SETTINGS, ncf.DEFAULT_MODES, quiet)
    for run in runs:
        assert len(run.hit_rates) == 1 + SETTINGS.epochs
        assert run.losses[-1] < run.losses[0]
        assert np.all(np.diff(run.seconds) > 0)

    hit_rates.show(data, SETTINGS, runs)
    printed = capsys.readouterr().out
    for run in runs:
        assert run.name in printed and f"{run.hit_rates[-1]:.4f}" in printed
    path = tmp_path / "ncf.png"
    hit_rates.plot(runs, path)
    from matplotlib import image

    assert image.imread(path)[..., :3].std() > 0.05


def test_what_is_given_goes_before_quick():
    options = ncf.parse(["--quick", "--epochs", "7", "--users", "50", "--seed", "9"])
    assert options.settings.epochs == 7
    assert options.settings.batch == ncf.QUICK["batch"]
    assert (options.sizes.users, options.sizes.items) == (50, ncf.QUICK["items"])
    assert options.settings.seed == options.sizes.seed == 9


@pytest.mark.parametrize("arguments", [["--epochs", "0"], ["--mean", "2.5"]])
def test_numbers_that_are_too_small(arguments, capsys):
    with pytest.raises(SystemExit):
        ncf.parse(arguments)
    assert "expected at least" in capsys.readouterr().err
