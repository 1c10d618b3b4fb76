"""The default suite: of each test's product of parameters a covering array.

A test with parameters stands for the product of their values, and with a twin under
tf_keras for twice that. Of this product the default run takes some, so that

- each value of a long factor occurs: of `case`, and of one with more than eight
  values, which is a list of examples;
- each pair of values of two short factors occurs: mode, dtype, way of calling,
  flavour, ...

`--exhaustive` takes the whole product, and so does naming a test ("::" in an
argument). Two marks say more about a test, or about one of its parameters:

    exhaustive      not in the default run;
    exhaustive_twin its twin is not;
    every("a", "b") each combination of these factors occurs, of all if none is named.

The choice is made anew at each collection, of the items that there are, and is the
same in every process.
"""

import collections
import itertools

import pytest

from tests import flavours

SHORT = 8  # values of a factor whose pairs are taken


def pytest_addoption(parser):
    parser.addoption(
        "--exhaustive",
        action="store_true",
        help="run the products of parameters, not covering arrays of them.",
    )


def pytest_collection_modifyitems(config, items):
    named = any("::" in argument for argument in config.args)
    if flavours.IS_CHILD or named or config.getoption("exhaustive"):
        return
    tests = collections.defaultdict(list)
    for item in items:
        marks = {mark.name for mark in _original(item).iter_markers()}
        twin = item is not _original(item)
        if "exhaustive" not in marks and not (twin and "exhaustive_twin" in marks):
            name = item.nodeid.split("[")[0].removesuffix(flavours.SUFFIX)
            tests[name].append(item)
    kept = set()
    for group in tests.values():
        rows = [_factors(item) for item in group]
        chosen = cover(rows, _every(group[0], rows[0]), [*map(_may_skip, group)])
        kept |= {group[i] for i in chosen}
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = [item for item in items if item in kept]


def _original(item):
    """The test that a twin is of; any other itself."""
    return getattr(item, "original", item)


def _factors(item):
    """Factor -> its value's identity; names that are set together are one."""
    spec = getattr(_original(item), "callspec", None)
    # The same objects in all of a test's items.
    factors = {key: id(value) for key, value in spec.params.items()} if spec else {}
    for mark in _original(item).iter_markers("parametrize"):
        names = mark.args[0]
        first, *others = names.split(",") if isinstance(names, str) else names
        together = [factors.pop(name.strip(), None) for name in others]
        factors[first] = (factors.get(first), *together)
    return {**factors, "flavour": item is not _original(item)}


def _every(item, row):
    marks = list(_original(item).iter_markers("every"))
    names = {name for mark in marks for name in mark.args}
    return tuple(sorted(names or (row if marks else ())))


def _may_skip(item):
    """Whether stock has not the case's optimizer there, or a wrong one.

    Tests skip these when they run, so nothing else must count on them.
    """
    spec = getattr(_original(item), "callspec", None)
    optimizer = getattr(spec and spec.params.get("case"), "optimizer", None)
    twin = item is not _original(item)
    return optimizer is not None and not (
        optimizer.in_stock[twin] and not (twin and optimizer.wrong_in_graph)
    )


def cover(rows, every=(), doubtful=()):
    """The numbers of rows that together cover what all rows do.

    Greedy: the row that covers most comes next; of equal ones that with most pairs
    of values, long factors included, that have not been together yet.

    Args:
        rows: for each row a dict of factor -> value.
        every: the factors of which each combination is kept.
        doubtful: for each row whether its pairs may not count.
    """
    values = collections.defaultdict(set)
    for row in rows:
        for factor, value in row.items():
            values[factor].add(value)
    short = {f for f in values if f != "case" and len(values[f]) <= SHORT}

    def needs(row, doubts):
        if not doubts:
            yield from itertools.combinations(_sorted(row, short), 2)
        if every:
            yield tuple((factor, row[factor]) for factor in every)
        for factor in row:
            if factor not in short or len(short) == 1:
                yield factor, row[factor]

    doubtful = doubtful or [False] * len(rows)
    needed = [set(needs(*each)) for each in zip(rows, doubtful, strict=True)]
    together = [set(itertools.combinations(_sorted(row, row), 2)) for row in rows]
    left, seen, chosen = set().union(*needed), set(), []
    while left:
        best = max(
            range(len(rows)),
            key=lambda i: (len(needed[i] & left), len(together[i] - seen), -i),
        )
        left -= needed[best]
        seen |= together[best]
        chosen.append(best)
    return sorted(chosen or ([0] if rows else []))


def _sorted(row, factors):
    return sorted((factor, row[factor]) for factor in factors)


@pytest.hookimpl(trylast=True)
def pytest_report_header(config):
    if config.getoption("exhaustive"):
        return "every product of parameters (--exhaustive)"
    return "covering arrays of parameters; --exhaustive runs their products"
