"""The marks and parameters that test modules have in common."""

import pytest

from tests import cases, flavours, models

both_flavours = pytest.mark.both_flavours
keras_3_only = pytest.mark.skipif(flavours.LEGACY, reason=models.KERAS_3_ONLY)

every_case = pytest.mark.parametrize("case", cases.CASES, ids=str)
richest = pytest.mark.parametrize("case", cases.RICHEST, ids=str)
# For what does not depend on the rule.
a_few = pytest.mark.parametrize("case", cases.RICHEST[:2], ids=str)
modes = pytest.mark.parametrize("mode", ["lazy", "dense"])
both_ways = pytest.mark.parametrize("graph", [False, True], ids=["eager", "function"])
