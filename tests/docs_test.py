"""The pages as a site, and the programs in them. `bazel run //:docs` looks at links."""

import pathlib
import re

import pytest
import tensorflow as tf

import tf_optim
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
def as_before():
    """What the pages' programs set for a whole process."""
    yield
    tf.keras.mixed_precision.set_global_policy("float32")
    tf_optim.unpatch_keras()


@pytest.mark.parametrize("page", PROGRAMS)
def test_programs_of_a_page_run(page, as_before, capsys):
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


def test_table_of_slot_dtypes_is_what_the_classes_take():
    """docs/memory.md: "yes", "no", or "-" where there are no slots."""
    page = (ROOT / "docs" / "memory.md").read_text()
    cell = "(yes|no|-)"
    rows = re.findall(rf"^\| ([\w, ]+) \| {cell} \| {cell} \|", page, re.MULTILINE)
    said = {}
    for names, *cells in rows:
        for name in names.split(", "):
            assert name not in said
            said[name] = dict(zip(("bfloat16", "int8"), cells, strict=True))
    assert said.keys() == set(tf_optim.optimizers.__all__)
    for name, answers in said.items():
        make = getattr(tf_optim, name)
        assert make(slot_dtype="float32").slot_dtype == "float32"
        for dtype, answer in answers.items():
            if answer == "no":
                with pytest.raises(ValueError, match=f"slots of {name} must be"):
                    make(slot_dtype=dtype)
            else:
                optimizer = make(slot_dtype=dtype)
                assert (answer == "-") == (not optimizer._spec.slots), name
