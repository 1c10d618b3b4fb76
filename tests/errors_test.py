"""Every mistake is one clear error, and nothing is written before it."""

import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest
import tensorflow as tf

import tf_optim
from tests import cases, models
from tests.marks import (
    a_few,
    both_flavours,
    both_ways,
    keras_3_only,
    kinds,
    modes,
    stock_kinds,
)
from tf_optim import library, version

# What TensorFlow raises for an op's complaint, and for a shape seen while tracing.
OP_ERRORS = (tf.errors.OpError, ValueError)


# --- arguments of the classes

BAD_ARGUMENTS = [
    pytest.param(row, arguments, expected, id=f"{row.name}-{arguments}")
    for row in cases.OPTIMIZERS
    for arguments, expected in (*row.errors, *cases.COMMON_ERRORS)
]


@both_flavours
@pytest.mark.parametrize(("row", "arguments", "expected"), BAD_ARGUMENTS)
def test_wrong_argument(row, arguments, expected):
    make = getattr(models.tf_optim, row.name)
    ((name, value),) = arguments.items()
    with pytest.raises(ValueError, match=f"Received: {name}=") as error:
        make(**arguments)
    message = str(error.value)
    assert f"`{name}` must be" in message
    assert expected in message
    assert repr(value) in message.split("Received")[1]
    with pytest.raises(ValueError, match=f"`{name}` must be"):
        make.from_config({**make().get_config(), **arguments})


@both_flavours
@pytest.mark.parametrize(
    ("row", "arguments", "expected"),
    [(row, *error) for row in cases.OPTIMIZERS for error in row.stock_errors],
)
def test_wrong_argument_in_stocks_words(row, arguments, expected):
    ((name, _),) = arguments.items()
    with pytest.raises(ValueError) as error:
        getattr(models.tf_optim, row.name)(**arguments)
    assert f"`{name}`" in str(error.value)
    assert expected in str(error.value)


@both_flavours
@pytest.mark.parametrize(
    ("row", "arguments"),
    [(row, limit) for row in cases.OPTIMIZERS for limit in row.limits],
)
def test_argument_at_the_end_of_its_range(row, arguments):
    """Is taken, by the class and by the op."""
    optimizer, var = getattr(tf_optim, row.name)(**arguments), tf.Variable([1.0])
    for _ in range(2):  # the first may only fill a slot
        optimizer.apply_gradients([(tf.constant([0.5]), var)])
    assert var.numpy() < 1.0


@keras_3_only
@pytest.mark.parametrize("steps", [0, 1, -2, 2.5, "2"])
@a_few
def test_wrong_gradient_accumulation_steps(case, steps):
    expected = "`gradient_accumulation_steps` must be an integer >= 2"
    received = f"Received: gradient_accumulation_steps={steps}"
    match = f"{re.escape(expected)}.*{re.escape(received)}"
    if steps == "2":  # stock itself compares it with 2
        match += "|not supported between instances of 'str' and 'int'"
    with pytest.raises((TypeError, ValueError), match=match):
        models.ours(case, gradient_accumulation_steps=steps)


@keras_3_only
@pytest.mark.parametrize("factor", [0, -1.0, float("nan"), float("inf")])
def test_wrong_loss_scale_factor(factor):
    with pytest.raises(ValueError, match="`loss_scale_factor` must be a finite .* > 0"):
        tf_optim.Adam(loss_scale_factor=factor)


@both_flavours
@pytest.mark.parametrize(("row", "arguments", "expected"), BAD_ARGUMENTS)
def test_argument_that_is_set_wrong_later(row, arguments, expected):
    """Hyperparameters are attributes; the next step looks at them."""
    ((name, value),) = arguments.items()
    optimizer, var = getattr(tf_optim, row.name)(), tf.Variable([1.0])
    optimizer.build([var])
    setattr(optimizer, name, value)
    before = models.everything([var], optimizer)
    with pytest.raises(ValueError, match=f"`{name}` must be") as error:
        optimizer.apply_gradients([(tf.constant([1.0]), var)])
    assert expected in str(error.value)
    assert models.everything([var], optimizer) == before


@both_flavours
@stock_kinds
def test_unknown_argument_is_stocks_error(case):
    errors = []
    for make in (models.stock, models.ours):
        with pytest.raises((TypeError, ValueError)) as error:
            make(case, speed=3)
        errors.append((error.type, str(error.value)))
    assert errors[0] == errors[1]


@both_flavours
@stock_kinds
def test_contradicting_clips_are_stocks_error(case):
    for make in (models.stock, models.ours):
        with pytest.raises(ValueError, match="can be set"):
            make(case, clipnorm=1.0, global_clipnorm=1.0)


# --- steps of the optimizers


class Training:
    """Tables of several types and a dense variable under one optimizer."""

    def __init__(self, case, mode="lazy"):
        self.variables = [
            models.variables(((10, 3),), dtype, seed=i)[0]
            for i, dtype in enumerate(["float32", "float64", "float16", "float32"])
        ]
        self.optimizer = models.ours(
            case, case.optimizer.learning_rate, sparse_update=mode
        )
        self.optimizer.build(self.variables)

    def gradients(self, bad_table=None, bad_id=0, index_dtypes=("int32",) * 3):
        grads = []
        for i, variable in enumerate(self.variables[:3]):
            ids = [1, 4, 1, bad_id if i == bad_table else 0]
            values = tf.ones([4, 3], variable.dtype)
            grads.append(tf.IndexedSlices(values, tf.constant(ids, index_dtypes[i])))
        return [*grads, tf.ones([10, 3])]

    def step(self, grads, graph):
        def step():
            self.optimizer.apply_gradients(zip(grads, self.variables, strict=True))

        (tf.function(step) if graph else step)()

    def values(self):
        """What steps write, `iterations` included, by a name for messages."""
        everything = [*self.variables, *self.optimizer.variables]
        return {f"{i} {v.name}": v.numpy().tobytes() for i, v in enumerate(everything)}

    def changed_since(self, before):
        after = self.values()
        return [name for name, value in before.items() if after[name] != value]


@both_flavours
@both_ways
@modes
@pytest.mark.parametrize("bad_table", [0, 1, 2])
@kinds
def test_wrong_id_changes_no_variable_of_the_step(case, mode, graph, bad_table):
    training = Training(case, mode)
    training.step(training.gradients(), graph)
    before = training.values()
    for bad_id in (10, -1):
        with pytest.raises(tf.errors.InvalidArgumentError) as error:
            training.step(training.gradients(bad_table, bad_id), graph)
        where = re.escape(f"indices[3] of var[{bad_table}]")
        assert re.search(
            rf"{where} must be in \[0, 10\). Received: {bad_id}\.", str(error.value)
        )
        assert training.changed_since(before) == []
    training.step(training.gradients(), graph)
    assert set(training.changed_since(before)) >= set(list(before)[:4])


@both_flavours
@both_ways
@kinds
def test_wrong_id_among_int64_ids_changes_no_table_with_int32_ids(case, graph):
    training = Training(case)
    for dtypes in (("int64", "int32", "int32"), ("int32", "int64", "int64")):
        before = training.values()
        for bad_table in range(3):
            with pytest.raises(tf.errors.InvalidArgumentError, match="must be in"):
                training.step(training.gradients(bad_table, 77, dtypes), graph)
            assert training.changed_since(before) == []


@both_flavours
@both_ways
@kinds
def test_wrong_gradient_shape_changes_no_variable_of_the_step(case, graph):
    training = Training(case)
    before = training.values()
    good_grads = training.gradients()
    for i, wrong in (
        (3, tf.ones([10, 4])),
        (1, tf.IndexedSlices(tf.ones([2, 4], "float64"), tf.constant([1, 2]))),
        (2, tf.IndexedSlices(tf.ones([3, 3], "float16"), tf.constant([1, 2]))),
    ):
        grads = [wrong if i == j else grad for j, grad in enumerate(good_grads)]
        with pytest.raises(OP_ERRORS, match="must have shape .* Received: "):
            training.step(grads, graph)
        assert training.changed_since(before) == []


@both_flavours
def test_adaptive_epsilon_is_refused():
    with pytest.raises(ValueError, match="adaptive_epsilon"):
        tf_optim.Adam(adaptive_epsilon=True)


@both_flavours
@kinds
def test_variable_dtype_without_a_kernel(case):
    variables = [models.variables(((3,),))[0], tf.Variable([1 + 1j], dtype="complex64")]
    before = [v.numpy().tobytes() for v in variables]
    grads = [tf.ones([3]), tf.constant([1 + 1j], tf.complex64)]
    with pytest.raises(ValueError, match="Received: .*complex64"):
        models.ours(case).apply_gradients(zip(grads, variables, strict=True))
    assert [v.numpy().tobytes() for v in variables] == before


@both_flavours
@kinds
def test_variable_that_the_optimizer_was_not_built_for(case):
    variables = models.variables(((3,), (3,)))
    optimizer = models.ours(case)
    optimizer.build(variables[:1])
    before = [v.numpy().tobytes() for v in variables]
    # Keras 3 says so itself; tf_keras finds nothing under the variable's key.
    with pytest.raises((ValueError, KeyError), match="Unknown variable|built with all"):
        optimizer.apply_gradients(
            [(tf.ones([3]), variables[0]), (tf.ones([3]), variables[1])]
        )
    assert [v.numpy().tobytes() for v in variables] == before


# --- the built library


def test_library_built_for_another_tensorflow(monkeypatch):
    """Refused before anything of it is loaded into the process."""
    monkeypatch.setattr(tf, "__version__", "2.99.1")
    monkeypatch.setattr(tf, "load_op_library", lambda path: pytest.fail("loaded"))
    with pytest.raises(ImportError) as error:
        library.ops.__wrapped__()
    built_for = library.build_info()["tensorflow"]
    assert f"built for TensorFlow {built_for}" in str(error.value)
    assert "Received: TensorFlow 2.99.1" in str(error.value)
    assert "pip install" in str(error.value)


def test_library_built_for_this_minor_version_is_accepted():
    library.check_tensorflow_version("2.21.0", "2.21.3")
    for other in ("2.2.0", "2.20.0", "2.22.0", "3.21.0"):
        with pytest.raises(ImportError, match=re.escape(f"TensorFlow {other}")):
            library.check_tensorflow_version("2.21.0", other)


def import_of_a_copy(folder, tensorflow=None, native=None):
    """What `import tf_optim` says beside a TensorFlow that is a version and no more."""
    shutil.copytree(
        pathlib.Path(library.__file__).parent,
        folder / "tf_optim",
        ignore=shutil.ignore_patterns("*.so", "__pycache__"),
    )
    if native is None:
        for name in ("_native.so", "libtf_optim_cpu.so"):
            shutil.copy(library.find(name), folder / "tf_optim")
    else:
        (folder / "tf_optim" / "_native.so").write_bytes(native)
    if tensorflow is not None:
        (folder / "tensorflow.py").write_text(f"__version__ = {tensorflow!r}\n")
    ended = subprocess.run(
        # Without the packages that are installed.
        [sys.executable, "-S", "-c", "import tf_optim"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 1
    return ended.stderr.strip().splitlines()[-1]


def test_import_under_another_tensorflow(tmp_path):
    """Before anything is asked of it that it may not have."""
    said = import_of_a_copy(tmp_path, tensorflow="2.16.2")
    built_for = library.build_info()["tensorflow"]
    expected = f"ImportError: tf_optim was built for TensorFlow {built_for}"
    assert said.startswith(expected)
    assert "Received: TensorFlow 2.16.2" in said
    minor = ".".join(built_for.split(".")[:2])
    assert f"pip install 'tensorflow=={minor}.*'" in said
    assert f"pip install 'tf_optim=={version.__version__}+tf2.16'" in said


def test_import_without_tensorflow(tmp_path):
    said = import_of_a_copy(tmp_path)
    assert said.startswith("ModuleNotFoundError: tf_optim needs TensorFlow")


def test_import_where_the_native_module_cannot_be_loaded(tmp_path):
    """As under another Python; the loader says why."""
    said = import_of_a_copy(tmp_path, tensorflow="2.21.0", native=b"no .so")
    running = ".".join(map(str, sys.version_info[:2]))
    assert f"_native.so could not be loaded by Python {running}" in said
    assert "Received: " in said and "pip install" in said


def test_ops_that_cannot_be_loaded(monkeypatch):
    def refuse(path):
        raise tf.errors.NotFoundError(None, None, f"{path}: undefined symbol: _ZN3x")

    monkeypatch.setattr(tf, "load_op_library", refuse)
    with pytest.raises(ImportError, match="could not be loaded by TensorFlow") as error:
        library.ops.__wrapped__()
    assert "undefined symbol: _ZN3x" in str(error.value).split("Received: ")[1]
    assert "pip install" in str(error.value)


def test_package_that_is_not_built(monkeypatch, tmp_path):
    monkeypatch.setattr(library, "search_path", lambda: [tmp_path / "nowhere"])
    with pytest.raises(ImportError, match="nowhere.*Received: no such file.*bazel"):
        library.find(library.OPS_LIBRARY)


def test_instruction_set_named_by_the_environment():
    program = (
        "import importlib.util, sys\n"
        "spec = importlib.util.spec_from_file_location('_native', sys.argv[1])\n"
        "native = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(native)\n"
        "try: print(native.build_info()['isa'])\n"
        "except Exception as error: print(error)\n"
    )
    expected = {isa: isa for isa in library.build_info()["isas"]}
    expected["sse9"] = (
        f"The instruction set must be one of {', '.join(expected)}. Received: sse9."
    )
    for name, said in expected.items():
        run = subprocess.run(
            [sys.executable, "-c", program, library.find("_native.so")],
            env={**os.environ, "TF_OPTIM_ISA": name},
            capture_output=True,
            text=True,
            check=True,
        )
        assert run.stdout.strip() == said
