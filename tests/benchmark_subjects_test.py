"""Every subject of the benchmark, through real workers, on tiny cases."""

import dataclasses

import numpy as np
import pytest

from tests.benchmark_cases import APART, DENSE, NAMES, plain
from tests.cases import OPTIMIZERS
from tf_optim.benchmark import (
    cases,
    check,
    runner,
    subjects,
)

# What Keras has with a step of its own: see the class.
DIFFERS = {"ScheduleFreeAdamW"}
# Optimizers that a subject has not, for dense and for sparse gradients.
NO_TF_KERAS = {row.name for row in OPTIMIZERS if not row.in_stock[1]}
NO_KERAS = {row.name for row in OPTIMIZERS if not row.in_stock[0]} - DIFFERS
NO_LEGACY = NO_TF_KERAS | {"AdamW", "Lion"}
# RMSprop's op has a momentum slot always, which is another optimizer.
NO_RAW_OP = NO_LEGACY | {"Nadam", "RMSprop"}
NO_TORCH = {"Ftrl", "Lion", "Lamb", "ScheduleFreeAdamW"}
NO_TORCH |= NO_KERAS - {"RectifiedAdam", "Rprop", "ASGD"}
NO_SPARSE_TORCH = set(NAMES) - {"SGD", "Adagrad", "Adam"}
NO_RECIPE = set(NAMES) - {"Adam", "Adamax", "RMSprop"}
NO_FBGEMM = set(NAMES) - {"SGD", "Adagrad", "RowWiseAdagrad"}
LACKS = {
    "dense": {
        **dict.fromkeys(("keras3 graph", "keras3 jit"), NO_KERAS),
        **dict.fromkeys(("keras3 function", "keras3 jit function"), NO_KERAS),
        **dict.fromkeys(("tf raw op", "tf raw op function"), NO_RAW_OP),
        **dict.fromkeys(("tf_keras", "tf_keras function"), NO_TF_KERAS),
        **dict.fromkeys(("tf_keras legacy", "tf_keras legacy function"), NO_LEGACY),
        **dict.fromkeys(("torch for-loop", "torch foreach"), NO_TORCH),
        **dict.fromkeys(("torch compile", "torch foreach, allocator"), NO_TORCH),
        "ours, bfloat16 slots": set(NAMES),  # these variables are in float32
        "torch fused": set(NAMES) - {"SGD", "Adagrad", "Adam", "AdamW"},
    },
    "sparse": {
        "ours, op per table": set(NAMES),  # there is one table only
        **dict.fromkeys(("keras3 graph", "keras3 jit"), NO_KERAS),
        **dict.fromkeys(
            ("tf raw op", "tf raw op function"), NO_RAW_OP | {"Adam", "Adamax"}
        ),
        **dict.fromkeys(("tf lazy recipe", "tf lazy recipe function"), NO_RECIPE),
        "tf_keras": NO_TF_KERAS,
        **dict.fromkeys(("tf_keras legacy", "tf_keras legacy function"), NO_LEGACY),
        **dict.fromkeys(("torch sparse", "torch sparse, coalesced"), NO_SPARSE_TORCH),
        "torch sparse, after lookup": NO_SPARSE_TORCH,
        **dict.fromkeys(("fbgemm", "fbgemm op"), NO_FBGEMM),
    },
}
# tf_keras' Nadam is wrong inside of a tf.function; of the table too little to note.
WRONG = {(DENSE.name, "Nadam", "tf_keras"), (DENSE.name, "Nadam", "tf_keras function")}
WRONG |= {
    (case.name, name, subject)
    for case in (DENSE, APART)
    for name in DIFFERS
    for subject in (
        *("keras3 graph", "keras3 jit"),
        *("keras3 function", "keras3 jit function"),
    )
}


# What may not be installed: no requirement of a checkout.
OPTIONAL = {name for name in subjects.names() if name.startswith(("torch", "fbgemm"))}
EVERYWHERE = {"ours", "ours jit", "ours, function", "ours, concrete", "limit"}
SUBJECTS = {
    "dense": {*LACKS["dense"], *EVERYWHERE},
    "sparse": {
        *LACKS["sparse"],
        *EVERYWHERE,
        *("ours, dense update", "ours, dense update function"),
        "ours, after lookup",
    },
}
PAIRS = [
    pytest.param((case, subject), id=f"{case.name}-{subject}")
    for case in (DENSE, APART)
    for subject in sorted(SUBJECTS[case.kind])
]


@pytest.fixture(scope="module")
def ask():
    """Asks the real worker of a subject; each is started when first asked."""
    processes = {}

    def ask(subject, work):
        entry = subjects.find(subject, work.case.kind)
        if entry.worker not in processes:
            processes[entry.worker] = runner.Process(entry.worker, 1, pinned=False)
        process = processes[entry.worker]
        work = dataclasses.asdict(work)
        answer = process.ask(do="prepare", subject=subject, work=work, warm_up=None)
        process.ask(do="release", inputs=False)
        return answer

    yield ask
    for process in processes.values():
        process.stop()


def test_no_batch_names_a_row_twice():
    batches = [set(batch) for batch in cases.Inputs(APART).ids(0)[: check.STEPS]]
    assert {len(batch) for batch in batches} == {APART.ids}
    assert set.intersection(*batches)


@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_all_subjects_are_asked_below(kind):
    assert {entry.name for entry in subjects.select((), kind)} == SUBJECTS[kind]


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("name", NAMES)
def test_every_subject_does_what_it_says(ask, pair, name):
    case, subject = pair
    answer = ask(subject, plain(case, name))
    if subject in OPTIONAL and "missing" in answer:
        pytest.skip(answer["reason"])
    assert "failed" not in answer and "missing" not in answer, answer
    lacks = name in LACKS[case.kind].get(subject, ())
    assert ("reason" in answer) == lacks, answer
    if not lacks:
        wrong = (case.name, name, subject) in WRONG
        assert bool(answer["note"]) == wrong, answer
        assert answer["bytes"] > 0


@pytest.mark.parametrize("case", [DENSE, APART], ids=lambda c: c.name)
def test_a_timed_loop_makes_the_steps_one_by_one(case, monkeypatch):
    """The same bits as called steps, the batches in turn, whatever goes into a call."""
    from tf_optim.benchmark import tf_subjects

    monkeypatch.setattr(tf_subjects, "_CALL", 1e-3)  # for fewer steps
    work, inputs = plain(case, "Adam"), cases.Inputs(case)
    looped = tf_subjects.Ours(work, inputs)
    called = tf_subjects.OursFunction(work, inputs)
    looked_up = case.tables and tf_subjects.OursAfterLookup(work, inputs)
    looped.step()
    looped.tune()
    before = int(looped._optimizer.iterations)
    looped._steps = cases.BATCHES + 3
    for _ in range(2):
        assert looped.seconds() > 0
    steps = int(looped._optimizer.iterations)
    assert steps == before + 2 * (cases.BATCHES + 3)
    for _ in range(steps):
        called.step()
    everywhere = range(32) if case.kind == "dense" else range(case.shapes[0][0])
    np.testing.assert_array_equal(
        looped.read(0, list(everywhere)), called.read(0, list(everywhere))
    )
    if looked_up:
        for _ in range(steps):
            assert looked_up.seconds() > 0
        np.testing.assert_array_equal(
            looped.read(0, list(everywhere)), looked_up.read(0, list(everywhere))
        )


def test_slots_as_short_as_a_peers_are_near():
    from tf_optim.benchmark import tf_subjects

    case = dataclasses.replace(DENSE, dtype="bfloat16")
    work, inputs = plain(case, "Adam"), cases.Inputs(case)
    subject = tf_subjects.OursShortSlots(work, inputs)
    assert check.check(subject, work, inputs).note == ""
    plain_bytes = tf_subjects.OursFunction(work, inputs).bytes_moved(work, inputs)
    assert plain_bytes - subject.bytes_moved(work, inputs) == 2 * 2 * 2 * case.numbers
