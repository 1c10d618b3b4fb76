"""Every public name is annotated, and a type checker reads what it says."""

import inspect
import os
import re
import subprocess
import sys
import typing

import pytest
import tensorflow as tf

import tf_optim
from tests import cases, models
from tests.marks import both_flavours
from tests.style_test import ROOT
from tf_optim import annotations, checks

USE = ROOT / "tests" / "typed_use.py"


def test_checker_agrees_with_typed_use(tmp_path):
    ran = subprocess.run(
        [sys.executable, "-m", "mypy", f"--cache-dir={tmp_path}", str(USE)],
        cwd=ROOT,
        env={**os.environ, "MYPYPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "No module named mypy" not in ran.stderr, "run ./configure.sh, which has it"
    pattern = r"^([^:\n]+):(\d+): error: (.*)$"
    found = re.findall(pattern, ran.stdout, re.MULTILINE)
    elsewhere = [error for error in found if not error[0].endswith(USE.name)]
    assert not elsewhere and ran.stderr == "", ran.stdout + ran.stderr
    lines = USE.read_text().splitlines()
    wrong = [i for i, line in enumerate(lines, 1) if line.endswith("# wrong")]
    assert sorted({int(line) for _, line, _ in found}) == wrong, ran.stdout


def public_functions():
    for name in tf_optim.__all__:
        thing = getattr(tf_optim, name)
        if inspect.isfunction(thing):
            yield name, thing
        if inspect.isclass(thing):
            if thing.__init__.__module__.startswith("tf_optim."):
                yield name, thing.__init__
            for cls in thing.__mro__:
                if cls.__module__.startswith("tf_optim."):
                    for member, value in vars(cls).items():
                        value = getattr(value, "fget", value)
                        if inspect.isfunction(value) and member[0] != "_":
                            yield f"{cls.__name__}.{member}", value


@both_flavours
def test_public_names_are_annotated():
    functions = dict(public_functions())
    assert {"Adam", "fuse", "explain", "Methods.minimize"} <= set(functions)
    assert len(functions) > 30
    for name, function in functions.items():
        function = inspect.unwrap(function)
        signature = inspect.signature(function, follow_wrapped=False)
        code = function.__code__
        said = function.__annotations__
        expected = {*signature.parameters, "return"} - {"self"}
        assert expected <= set(said), (name, code.co_filename, expected - set(said))


@both_flavours
@pytest.mark.parametrize("name", [row.name for row in cases.OPTIMIZERS])
def test_help_shows_stocks_arguments_and_ours(name):
    make = getattr(tf_optim, name)
    shown = inspect.signature(make).parameters
    stock = getattr(tf.keras.optimizers, name, tf.keras.optimizers.Adagrad)
    known = dict(inspect.signature(stock).parameters)
    known.pop("kwargs", None)
    if stock.__name__ != name:  # only what all optimizers of Keras have
        shared = typing.get_type_hints(annotations.SharedArguments)
        known = {each: p for each, p in known.items() if each in shared}
    refused = {"adaptive_epsilon", "jit_compile"}  # or without effect
    assert set(known) - refused <= set(shown)
    assert {"sparse_update", "use_locking"} <= set(shown)
    for parameter in ("use_ema", "ema_momentum", "ema_overwrite_frequency"):
        assert shown[parameter].default == known[parameter].default
    made = make(**{p: shown[p].default for p in shown if p != "kwargs"})
    assert made.get_config().keys() == make().get_config().keys()
    # What a checker reads names what is shown, and nothing else but old spellings.
    typed = set(typing.get_type_hints(annotations.SharedArguments))
    own = {"learning_rate", *make._own_arguments}
    beside = set(shown) - own - {"kwargs"}
    assert beside <= typed
    assert typed - beside - own <= {
        "lr",
        "decay",
        "jit_compile",
        "loss_scale_factor",
        "gradient_accumulation_steps",
    }


@both_flavours
@pytest.mark.parametrize("name", [row.name for row in cases.OPTIMIZERS])
def test_help_says_what_every_argument_is(name):
    make = getattr(tf_optim, name)
    said = make.__doc__.partition("\nArgs:\n")[2].partition("\n\n")[0]
    described = re.findall(r"^    (\w+): ", said, re.MULTILINE)
    shown = [each for each in inspect.signature(make).parameters if each != "kwargs"]
    assert sorted(described) == sorted(shown)


@both_flavours
def test_shared_arguments_are_taken_by_position_as_in_stock():
    optimizer = tf_optim.Adam(0.1, 0.8, 0.9, 1e-3, True, 0.25, 1.0)
    assert (optimizer.weight_decay, optimizer.clipnorm) == (0.25, 1.0)


def test_modes_are_those_that_are_checked():
    assert set(typing.get_args(annotations.SparseUpdate)) == set(checks.SPARSE_UPDATES)


def test_marker_for_checkers():
    assert (ROOT / "tf_optim" / "py.typed").is_file()
    assert models.tf_optim is tf_optim
