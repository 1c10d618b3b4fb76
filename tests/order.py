"""The slowest modules first: what is left at the end is short.

`pytest --write-seconds` writes what each module took into seconds.json; a module
that is not there counts as slow.
"""

import collections
import json
import pathlib

import pytest

SECONDS = pathlib.Path(__file__).with_name("seconds.json")


def pytest_addoption(parser):
    parser.addoption(
        "--write-seconds",
        action="store_true",
        help=f"write the seconds of each module into {SECONDS.name}.",
    )


def _module(nodeid):
    return nodeid.split("::", 1)[0].rpartition("/")[2]


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    seconds = json.loads(SECONDS.read_text()) if SECONDS.exists() else {}
    names = {item: _module(item.nodeid) for item in items}
    # Stable, so that a module's tests stay in their order, its twins behind them.
    items.sort(key=lambda item: (-seconds.get(names[item], 1e9), names[item]))


def pytest_terminal_summary(terminalreporter, config):
    if not config.getoption("write_seconds"):
        return
    seconds = collections.Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            if hasattr(report, "duration") and hasattr(report, "nodeid"):
                seconds[_module(report.nodeid)] += report.duration
    table = {name: round(total) for name, total in seconds.most_common()}
    SECONDS.write_text(json.dumps(table, indent=1) + "\n")
