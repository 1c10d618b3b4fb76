"""Each mutant of tests/mutant_table.py can be made: its text is where it says, once."""

import collections

from tests import mutant_table, mutants


def test_what_a_mutant_replaces_is_there():
    for mutant in mutant_table.MUTANTS:
        assert mutant.new in mutants.mutated(mutant)


def test_the_modules_that_are_to_see_it_are_there():
    for mutant in mutant_table.MUTANTS:
        assert all((mutants.ROOT / module).is_file() for module in mutant.tests)


def test_names_are_different():
    names = collections.Counter(mutant.name for mutant in mutant_table.MUTANTS)
    assert names.most_common(1)[0][1] == 1
