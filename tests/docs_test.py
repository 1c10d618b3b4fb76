"""The pages as a site, and the programs in them. `bazel run //:docs` looks at links."""

import pathlib
import re

import pytest
import tensorflow as tf

from build_deps import docs

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROGRAMS = [
    "distributed.md",
    "exact.md",
    "fuse.md",
    "memory.md",
    "mixed-precision.md",
    "quickstart.md",
    "scripts.md",
    "using.md",
]


@pytest.fixture
def policy():
    yield
    tf.keras.mixed_precision.set_global_policy("float32")


@pytest.mark.parametrize("page", PROGRAMS)
def test_programs_of_a_page_run(page, policy, capsys):
    """One after the other, as one types them."""
    text = (ROOT / "docs" / page).read_text()
    programs = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(programs) >= 1
    names = {}
    for program in programs:
        exec(compile(program, page, "exec"), names)
    assert "tf_optim" in names


def test_navigation_has_every_page():
    listed = set(
        re.findall(r"[-:] ([\w./-]+\.md)\n", (ROOT / "mkdocs.yml").read_text())
    )
    listed -= {"index.md", "api/optimizers.md", "api/functions.md"}
    pages = {path.name for path in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert listed == pages | {name for name in docs.OF_ROOT if name.endswith(".md")}


def test_reference_has_every_public_name():
    import tf_optim

    optimizers, others = docs.names()
    assert {*optimizers, *others, "__version__"} == set(tf_optim.__all__)
    assert "::: tf_optim.Adam\n" in docs.reference(docs.OPTIMIZERS, optimizers)
    assert "::: tf_optim.fuse\n" in docs.reference(docs.FUNCTIONS, others)


def test_links_of_the_site():
    page = pathlib.Path("page.md")
    assert docs._linked(page, "[a](../README.md#use)") == "[a](index.md#use)"
    assert docs._linked(page, "[a](../CHANGELOG.md)") == "[a](CHANGELOG.md)"
    index = pathlib.Path("index.md")
    assert docs._linked(index, "[a](docs/README.md)") == "[a](contents.md)"
    assert docs._linked(index, "[a](docs/xla.md#b)") == "[a](xla.md#b)"
    assert docs.slug("Loss scaling (`LossScaleOptimizer`)", "-") == (
        "loss-scaling-lossscaleoptimizer"
    )
