"""A few random programs and hostile calls, always the same; `tests.fuzz` runs more."""

import pytest
import tensorflow as tf

from tests import fuzz, fuzz_oracle, models
from tests.marks import both_flavours

EXAMPLES = {"programs": 40, "ops": 120}


def assert_none_fails(part, ways):
    found = []
    search = fuzz.Search(part, found.append)
    search.batch(EXAMPLES[part], ways=ways)
    assert not found, "\n\n".join(found)
    assert search.count >= EXAMPLES[part] // 2


@both_flavours
def test_programs():
    assert_none_fails("programs", ("eager", "eager", "function"))


def test_calls_of_ops():
    assert_none_fails("ops", ("eager", "function"))


@pytest.mark.parametrize("part", ["programs", "ops"])
def test_a_failure_is_found_and_printed_once(part):
    def run(example):
        if example.case.name == "Adam":
            raise fuzz_oracle.Failure("planted", 0, "here")

    found = []
    search = fuzz.Search(part, found.append)
    search.run = run
    for _ in range(2):
        search.batch(EXAMPLES[part], ways=("eager",))
    assert len(found) == 1
    assert found[0].startswith("Failure: step 0: planted: here\n")
    assert "Adam" in found[0]
    compile(found[0].partition("\n")[2], "printed", "exec")


def test_the_oracle_sees_a_wrong_step(monkeypatch):
    """A learning rate of which the optimizer uses a hundred-thousandth more."""
    right = models.ours

    def wrong(case, rate, **options):
        made = right(case, rate, **options)
        made._decayed = lambda rate: rate * (1 + 1e-5)
        return made

    monkeypatch.setattr(models, "ours", wrong)
    found = []
    fuzz.Search("programs", found.append).batch(10, ways=("eager",))
    assert found and "a wrong result" in found[0]


def test_a_printed_program_runs():
    found = []
    search = fuzz.Search("programs", found.append)
    search.run = lambda program: found.append(search.printed(program))
    search.batch(1, ways=("eager",))
    exec(found[0], {"print": lambda *values, sep: None, "tf": tf})
