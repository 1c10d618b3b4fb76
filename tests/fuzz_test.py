"""A few random programs and hostile calls, always the same; `tests.fuzz` runs more."""

import pytest
import tensorflow as tf

from tests import fuzz
from tests.marks import both_flavours

EXAMPLES = {"programs": 40, "ops": 120}


def failures(part, **drawing):
    found = []
    search = fuzz.Search(part, found.append)
    search.batch(EXAMPLES[part], **drawing)
    assert search.count >= EXAMPLES[part] // 2
    return found


@both_flavours
def test_programs():
    found = failures("programs", ways=("eager", "eager", "function"))
    assert not found, "\n\n".join(found)


def test_calls_of_ops():
    found = failures("ops", ways=("eager", "function"))
    assert not found, "\n\n".join(found)


@pytest.mark.parametrize("part", ["programs", "ops"])
def test_a_failure_is_found_and_printed(part, monkeypatch):
    """Whatever is wrong with the last float32 variable, something must be said."""
    from tests import fuzz_ops, fuzz_programs

    module = fuzz_ops if part == "ops" else fuzz_programs
    right = module.run

    def run(example):
        right(example)
        if example.case.name == "Adam":
            raise AssertionError("planted")

    monkeypatch.setattr(module, "run", run)
    found = failures(part, ways=("eager",))
    assert len(found) == 1
    assert "planted" in found[0] and "Adam" in found[0]
    compile(found[0].partition("\n")[2], "printed", "exec")


def test_a_printed_program_runs():
    found = []
    search = fuzz.Search("programs", found.append)
    search.run = lambda program: found.append(search.printed(program))
    search.batch(1, ways=("eager",))
    exec(found[0], {"print": lambda *values, sep: None, "tf": tf})
