"""The benchmark of a user's own variables: what it reads, refuses and measures."""

import dataclasses
import json

import numpy as np
import pytest
import tensorflow as tf

from tests.benchmark_cases import plain
from tf_optim.benchmark import cases, check, cli, own, traffic


def written(tmp_path, text):
    path = tmp_path / "mine.txt"
    path.write_text(text)
    return path


def test_a_list_of_shapes_is_read(tmp_path):
    text = """# a model
        30x4  sparse 12   # words
        3 x 3 x 2
        5 bfloat16

        6x4 bfloat16 sparse 3
    """
    case = own.from_shapes(written(tmp_path, text))
    assert case.shapes == ((30, 4), (3, 3, 2), (5,), (6, 4))
    assert case.each_dtype == ("float32", "float32", "bfloat16", "bfloat16")
    assert case.each_ids == (12, 0, 0, 3)
    assert case.tables == [0, 3] and case.kind == "own"
    assert "4 variables, 167 numbers; 2 of them tables, 15 ids" in case.title


@pytest.mark.parametrize(
    "line, message",
    [
        ("768,768", "expected SHAPE [DTYPE] [sparse N]"),
        ("768x", "Received: 768x"),
        ("8x0", "dimensions must be at least 1. Received: 8x0"),
        ("8x8 float16", "must be one of float32, bfloat16. Received: float16"),
        ("8x8 sparse", "Received: 8x8 sparse"),
        ("8x8 sparse 0", "a table needs at least 1 id. Received: 0"),
        ("8 sparse 4", "a table must have 2 dimensions. Received: 8"),
        ("# nothing", "must have at least one variable. Received: none"),
    ],
)
def test_lines_that_say_no_variable_are_refused(tmp_path, capsys, line, message):
    path = written(tmp_path, f"\n{line}\n")
    with pytest.raises(SystemExit):
        cli.main(["--shapes", str(path)])
    said = " ".join(capsys.readouterr().err.split())
    assert message in said
    if "variable." not in message and "at least one" not in message:
        assert f"{path}:2: " in said


def embedding_model(**arguments):
    layers = tf.keras.layers
    inner = tf.keras.Sequential([layers.Dense(3), layers.Dense(2)])
    ids = layers.Input((7,), dtype="int64")
    hidden = layers.Flatten()(layers.Embedding(20, 4, name="words")(ids))
    hidden = layers.BatchNormalization()(layers.Dense(5, use_bias=False)(hidden))
    model = tf.keras.Model(ids, inner(hidden))
    if arguments:
        model.compile(**arguments)
    return model


def test_a_model_is_read(tmp_path):
    path = tmp_path / "model.keras"
    model = embedding_model(optimizer="rmsprop", loss="mse")
    model.save(path)
    case = own.from_model(path, batch=8)
    assert case.shapes == tuple(tuple(v.shape) for v in model.trainable_variables)
    assert case.each_ids == tuple(
        8 * 7 if shape == (20, 4) else 0 for shape in case.shapes
    )
    assert set(case.each_dtype) == {"float32"}
    assert own.optimizer_of(path) == "RMSprop"
    embedding_model().save(path)
    assert own.optimizer_of(path) is None


def test_the_optimizer_is_the_models_and_adam_for_others(tmp_path):
    import tf_optim

    options = cli._parser().parse_args(["--model", str(tmp_path / "m.keras")])
    for optimizer, expected in (
        (tf_optim.Lion(1e-3), "Lion"),
        (tf.keras.optimizers.SGD(), "SGD"),
        (None, "Adam"),
    ):
        compiled = {"optimizer": optimizer, "loss": "mse"} if optimizer else {}
        embedding_model(**compiled).save(options.model)
        (case,), optimizers = cli._chosen(options)
        assert optimizers == [expected] and max(case.each_ids) == 32 * 7


def test_models_that_do_not_say_all_are_refused(tmp_path, capsys):
    path = tmp_path / "model.keras"

    def refused(*more):
        with pytest.raises(SystemExit):
            cli.main(["--model", str(path), *more])
        return " ".join(capsys.readouterr().err.split())

    assert "must be a .keras file" in refused() and "no such file" in refused()
    path.write_text("not a model")
    assert "another file" in refused()
    layers = tf.keras.layers
    ids = layers.Input((None,), dtype="int64")
    tf.keras.Model(ids, layers.Embedding(20, 4, name="words")(ids)).save(path)
    said = refused()
    assert "ids per example in the input of embedding words" in said
    assert "--shapes" in said
    assert "--batch must be at least 1. Received: 0" in refused("--batch", "0")
    assert "take no --case. Received: dense" in refused("--case", "dense")
    with pytest.raises(SystemExit):
        cli.main(["--batch", "8"])
    assert "--batch needs --model. Received: 8" in capsys.readouterr().err


MIXED = cases.Case(
    "own",
    "two tables and two variables",
    "own",
    ((64, 4), (8,), (9, 4), (3, 5)),
    each_dtype=("float32", "bfloat16", "float32", "float32"),
    each_ids=(12, 0, 3, 0),
)


def test_bytes_of_tables_and_variables_add_up():
    inputs = cases.Inputs(MIXED)
    unique = [np.mean([len(set(batch)) for batch in inputs.ids(i)]) for i in (0, 2)]
    expected = traffic.sparse_bytes(12, unique[0], 4, 2)
    expected += traffic.sparse_bytes(3, unique[1], 4, 2)
    expected += traffic.dense_bytes(8, 2, item=2) + traffic.dense_bytes(15, 2)
    assert traffic.case_bytes(inputs, 2) == pytest.approx(expected, abs=1)


@pytest.mark.parametrize("name", ["Adam", "RowWiseAdagrad", "Lamb"])
@pytest.mark.parametrize("dense", [False, True])
def test_steps_on_tables_and_variables_are_right(name, dense):
    from tf_optim.benchmark import tf_subjects

    cls = tf_subjects.OursDenseUpdate if dense else tf_subjects.Ours
    case = dataclasses.replace(MIXED, each_dtype=("float32",) * 4)
    work, inputs = plain(case, name), cases.Inputs(case)
    found = check.check(cls(work, inputs), work, inputs)
    assert found.checked > 80 and found.wrong == 0, found


def test_own_variables_are_measured(tmp_path, capsys):
    """The real command: stock of both flavours beside ours."""
    path = written(tmp_path, "64x4 sparse 12\n8x4\n")
    records = tmp_path / "records.json"
    command = ["--shapes", str(path), "--quick", "--threads", "1"]
    names = ["ours, dense update", "keras3 graph", "tf_keras function", "limit"]
    for name in names:
        command += ["--subject", name]
    status = cli.main([*command, "--json", str(records)])
    record = json.loads(records.read_text())
    assert status == 0, record["not_measured"]
    rows = {row["subject"]: row for row in record["rows"]}
    bases = {"ours", "ours, function", "ours, dense update function"}
    assert rows.keys() == {*bases, *names}
    assert {row["optimizer"] for row in rows.values()} == {"Adam"}
    assert rows["keras3 graph"]["base"] == "ours, dense update"
    assert rows["keras3 graph"]["ratio_to_ours"] > 0
    assert "own: mine.txt: 2 variables" in capsys.readouterr().out
