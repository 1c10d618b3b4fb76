"""The examples in docstrings print what they say."""

import doctest
import importlib
import pkgutil

import pytest
import tensorflow as tf

import tf_optim
from tests.marks import both_flavours

MODULES = [
    "tf_optim.conversion",
    "tf_optim.explanation",
    "tf_optim.methods",
    "tf_optim.replacement",
    *(
        f"tf_optim.optimizers.{module.name}"
        for module in pkgutil.iter_modules(tf_optim.optimizers.__path__)
    ),
]


@both_flavours
@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    result = doctest.testmod(importlib.import_module(name), extraglobs={"tf": tf})
    assert result.attempted > 0
    assert result.failed == 0
