"""The demo on small data: what it reads, trains, prints and draws."""

import pathlib

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the demo needs pip install 'tf_optim[demo]'")
pytest.importorskip("matplotlib", reason="the demo needs pip install 'tf_optim[demo]'")
tqdm = pytest.importorskip("tqdm", reason="the demo needs pip install 'tf_optim[demo]'")

from tf_optim.demo import cli, digits, identifiers, report, skipgram  # noqa: E402

SOURCE = '''
import os  # a comment
def rows(name, count=0x1F, *, mode=rb"raw bytes"):
    """A docstring that says 'words'."""
    text = f"{name} and more" + 'it\\'s' + """one "two" three"""
    return os.path.join(text, größe_2)
'''
BATCH = 128


def quiet(*arguments, **options):
    return tqdm.tqdm(*arguments, **options, disable=True)


def small_library():
    """The files of one package that every Python has."""
    files = identifiers.standard_library_files()
    return [path for path in files if path.parent.name == "json"]


@pytest.fixture(scope="module")
def corpus():
    return identifiers.build_corpus(small_library())


def test_identifiers_are_names_in_code():
    found = " ".join(identifiers.identifiers_of(SOURCE))
    assert found == "os rows name count mode text os path join text größe_2"


def test_identifiers_survive_broken_source():
    assert identifiers.identifiers_of("a = 'open\nb = \x00(c") == [
        "a",
        "open",
        "b",
        "c",
    ]


def test_standard_library_is_sorted_and_has_no_installed_packages():
    files = identifiers.standard_library_files()
    assert files == sorted(files)
    assert len(files) > 300
    assert not any("site-packages" in path.parts for path in files)


def test_corpus_is_deterministic(corpus):
    again = identifiers.build_corpus(small_library())
    assert again.words == corpus.words
    np.testing.assert_array_equal(again.counts, corpus.counts)
    for one, other in zip(again.files, corpus.files, strict=True):
        np.testing.assert_array_equal(one, other)


def test_corpus_counts_what_the_files_hold(corpus):
    np.testing.assert_array_equal(
        np.bincount(np.concatenate(corpus.files)), corpus.counts
    )
    assert np.all(np.diff(corpus.counts) <= 0)
    assert corpus.words[corpus.id_of("self")] == "self"
    assert corpus.id_of("no such identifier") is None


def test_batches_are_deterministic_and_in_range(corpus):
    one, other = (identifiers.SkipGrams(corpus, BATCH, negatives=3) for _ in range(2))
    for _ in range(5):
        batch, same = one.next_batch(), other.next_batch()
        np.testing.assert_array_equal(batch.centers, same.centers)
        np.testing.assert_array_equal(batch.contexts, same.contexts)
        assert batch.centers.shape == (BATCH,)
        assert batch.contexts.shape == (BATCH, 4)
        for ids in (batch.centers, batch.contexts):
            assert ids.dtype == np.int32
            assert ids.min() >= 0
            assert ids.max() < len(corpus.words)
            assert len(np.unique(ids)) < ids.size  # the case the demo is about


def test_batches_start_again_after_an_epoch(corpus):
    skip_grams = identifiers.SkipGrams(corpus, BATCH)
    first = skip_grams.next_batch().centers
    for _ in range(skip_grams.epoch_steps - 1):
        skip_grams.next_batch()
    np.testing.assert_array_equal(skip_grams.next_batch().centers, first)


def test_too_small_a_corpus_is_an_error(tmp_path):
    path = tmp_path / "small.py"
    path.write_text("one = two\n")
    tiny = identifiers.build_corpus([path])
    with pytest.raises(ValueError, match="at least batch_size=1024 pairs. Received: 0"):
        identifiers.SkipGrams(tiny)


def test_table_is_aligned():
    assert report.table(["name", "ms"], [["stock", "12.5"], ["ours", "1"]]) == (
        "name     ms\n-----  ----\nstock  12.5\nours      1"
    )


def test_curve():
    curve = report.Curve(report.OURS, "ours")
    for loss in (4.0, 2.0, 1.0):
        curve.add(0.5, loss)
    assert curve.seconds == [0.5, 1.0, 1.5]
    np.testing.assert_allclose(curve.step_ms, 500.0)
    assert curve.loss_at(2, mean_of=50) == 3.0
    assert curve.loss_at(3, mean_of=1) == 1.0


def assert_learned(curve):
    assert np.all(np.isfinite(curve.losses))
    tenth = len(curve.losses) // 10
    assert np.mean(curve.losses[-tenth:]) < 0.9 * np.mean(curve.losses[:tenth])
    assert np.all(np.diff(curve.seconds) > 0)


@pytest.mark.both_flavours
def test_demo_learns_and_draws(tmp_path):
    parts = [
        digits.run(quiet, "stock", epochs=2),
        skipgram.run(
            quiet,
            "stock",
            skipgram.Settings(steps=60, learning_rate=0.02, batch_size=BATCH, rounds=2),
            small_library(),
        ),
    ]
    for part in parts:
        stock, ours, *_ = part.curves
        assert (stock.owner, ours.owner) == (report.STOCK, report.OURS)
        for curve in part.curves:
            assert_learned(curve)
            assert curve.name in report.text(part)
        # The same start and the same batch.
        assert ours.losses[0] == pytest.approx(stock.losses[0], rel=1e-3)
    accuracies = [float(row[1]) for row in parts[0].rows]
    assert accuracies[1] == pytest.approx(accuracies[0], abs=0.01)
    assert "self" in report.text(parts[1])

    path = tmp_path / "demo.png"
    report.plot(parts, path)
    from matplotlib import image

    pixels = image.imread(path)
    assert min(pixels.shape[:2]) > 400
    assert pixels[..., :3].std() > 0.05


def test_mnist_file_is_read(tmp_path):
    rng = np.random.default_rng(0)
    path = tmp_path / "mnist.npz"
    np.savez(
        path,
        x_train=rng.integers(0, 256, (20, 28, 28), np.uint8),
        y_train=rng.integers(0, 10, 20),
        x_test=rng.integers(0, 256, (10, 28, 28), np.uint8),
        y_test=rng.integers(0, 10, 10),
    )
    (x, y), (test_x, test_y), name = digits.load(path)
    assert name == "MNIST"
    assert x.shape == (20, 784) and y.shape == (20,)
    assert test_x.shape == (10, 784) and test_y.shape == (10,)
    assert x.min() >= 0.0 and x.max() <= 1.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--mnist", "no.npz"], "--mnist: expected an .npz file. Received: no.npz"),
        (["--plot", "no/such/folder/a.png"], "--plot: expected a file in a folder"),
    ],
)
def test_wrong_arguments_are_said_at_once(arguments, message):
    with pytest.raises(SystemExit, match=message):
        cli.main(arguments)


def test_missing_package_is_one_clear_message(monkeypatch):
    monkeypatch.setattr(cli.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match=r"pip install 'tf_optim\[demo\]'"):
        cli.main(["--plot", str(pathlib.Path.cwd() / "demo.png")])
