"""ParameterServerStrategy: real servers and workers as processes on this machine."""

import sys

import numpy as np
import pytest

from examples import local_cluster
from tests import cases, children, flavours, served
from tests.counters import counters, moves_by_one
from tests.marks import exhaustive_twin, keras_3_only, kinds

pytestmark = pytest.mark.both_flavours

# What does not depend on the rule is tested with one.
ADAM = next(case for case in cases.RICHEST if case.name == "Adam")
one = pytest.mark.parametrize("case", [ADAM], ids=str)


JOBS = {"chief": 1, "worker": 2, "ps": 2}


def chief_of(cluster):
    # Without it a chief waits for a server that is gone.
    environment = {"GRPC_FAIL_FAST": "use_caller"}
    return children.Child({**environment, "TF_CONFIG": cluster.config("chief")})


@pytest.fixture(scope="module")
def cluster():
    with local_cluster.Cluster(JOBS, own="chief") as cluster:
        yield cluster


@pytest.fixture(scope="module")
def chiefs(cluster):
    """Starts one; another where a test has lost it, or asks for one."""
    made, waits = [], [cluster.wait]

    def alive(anew=False):
        if made and (anew or not made[-1].is_alive()):
            made.pop().close()
        if not made:
            made.append(chief_of(cluster))
            while waits:  # a server says once that it is up
                waits.pop()()
        return made[-1]

    yield alive
    for chief in made:
        chief.close()


@pytest.fixture
def chief(chiefs):
    return chiefs()


def assert_same(left, right, exact=True):
    assert set(left) == set(right)
    for key, each in left.items():
        if exact:
            np.testing.assert_array_equal(each, right[key], key)
        else:
            atol = 1e-5 * np.max(np.abs(right[key]), initial=0.0)
            np.testing.assert_allclose(each, right[key], 1e-5, atol, err_msg=key)


@kinds
def test_one_worker_at_a_time_is_one_device(chief, case):
    """With the same bits, though shards of a table are updated apart; and a slot
    lies beside its shard."""
    options = {"weight_decay": 0.01}
    servers, places = chief.call(served.trained_in, 2, "ours", case, 6, **options)
    assert {device for device, _ in places[:2]} == {
        f"/job:ps/replica:0/task:{i}/device:CPU:0" for i in range(2)
    }
    for device, slots in places:
        assert slots == [device] * len(case.slots)
    if case.scope != "variable":  # its norms are those of each shard
        assert_same(servers, served.trained(0, "ours", case, 6, **options))


@pytest.mark.parametrize("in_scope", [True, False])
@one
def test_packed_slots_are_refused(chief, case, in_scope):
    """Servers could not restore them."""
    said = chief.call(served.packed, 2, case, in_scope)
    assert "other than MirroredStrategy and OneDeviceStrategy. Received" in said


AVERAGED = {"use_ema": True, "ema_momentum": 0.9}


@pytest.mark.parametrize("options", [{"weight_decay": 0.01}, AVERAGED], ids=str)
@kinds
def test_exact_is_the_dense_result_of_one_device(chief, case, options):
    """Slots included, each on its server, and rows that steps did not name."""
    if case.scope == "variable":
        pytest.skip("its steps need the norm of the whole table")
    exact = {**options, "sparse_update": "exact"}
    servers = chief.call(served.trained, 2, "ours", case, 12, **exact)
    dense = {**options, "sparse_update": "dense"}
    assert_same(servers, served.trained(0, "ours", case, 12, **dense), exact=False)


@keras_3_only
@pytest.mark.parametrize("mode", ["lazy", "exact"])
@one
def test_gradient_accumulation(chief, case, mode):
    """Two windows of three, the last of which does not end."""
    options = {"gradient_accumulation_steps": 3, "weight_decay": 0.01}
    servers = chief.call(
        served.trained, 2, "ours", case, 5, sparse_update=mode, **options
    )
    alone = "dense" if mode == "exact" else mode
    device = served.trained(0, "ours", case, 5, sparse_update=alone, **options)
    assert_same(servers, device, exact=False)


@one
def test_an_exact_step_is_one_of_rows(chief, case):
    """Others have stepped since rows were read: the op brings them up to date."""
    modes, ops = chief.call(served.modes_and_ops, 2, case, sparse_update="exact")
    assert modes == {"eventual"} and "TfOptim>CatchUpRows" in ops
    assert "TfOptim>CatchUpAllRows" not in ops


@one
def test_touched_rows_of_a_split_table(chief, case):
    named, rows = chief.call(served.touched, 2, case, 5)
    np.testing.assert_array_equal(rows, named)


def test_every_row_takes_every_step_once(chief):
    """Two workers at once, and lookups between their steps: a power of two."""
    case = next(c for c in cases.CASES if c.name == "SGD" and not c.arguments)
    table, steps = chief.call(served.halved, 2, case, 100)
    assert steps == 100
    np.testing.assert_array_equal(table, np.full_like(table, 0.5**100))


@pytest.mark.parametrize("mode", ["lazy", "exact"])
@one
def test_a_step_sends_rows_and_no_table(chief, case, mode):
    """The bound is a hundredth of the table; a step names 24 of 400,000 rows.

    Others on this machine can only add to what is counted, so one quiet try of many
    is enough.
    """
    sent, table = chief.call(served.traffic, 2, case, 400_000, 5, 1 / 100, mode)
    assert sent < table / 100


@counters
def test_every_gradient_counts_once(chief, case):
    """Two workers at once, on the same rows, and locks."""
    options = moves_by_one(case)
    run = chief.call(served.counted, 2, case, 200, **options)
    moved, named, steps, _, locking = run
    assert steps == 200 and locking == [True]
    np.testing.assert_array_equal(moved, np.tile(named[:, None], served.WIDTH))


@counters
def test_without_locks_some_gradients_may_be_lost(chief, case):
    options = {**moves_by_one(case), "use_locking": False}
    run = chief.call(served.counted, 2, case, 200, **options)
    moved, named, steps, _, locking = run
    assert steps == 200 and locking == [False]
    assert (moved == np.round(moved)).all()
    assert (moved <= named[:, None]).all()
    assert (moved[named > 0] >= 1).all()
    assert not moved[named == 0].any()


@pytest.mark.skipif(not flavours.LEGACY, reason="Keras 3's fit knows no servers")
@pytest.mark.parametrize("mode", ["lazy", "exact"])
@one
def test_model_fit(chief, case, mode):
    loss = chief.call(served.fitted, 2, "ours", case, sparse_update=mode)
    assert loss[-1] < 0.9 * loss[0]


@one
def test_a_split_table_in_front_of_keras_layers(chief, case):
    first, last = chief.call(served.trained_with_layers, 2, "ours", case, 60)
    assert last < 0.9 * first


def check_checkpoint(chief, case, shards, makes, path):
    for make, number in zip(makes, shards, strict=True):
        if make == "stock" and number and not flavours.LEGACY:
            pytest.skip("stock Keras 3 saves each shard as a variable of its own")
    ema = {"use_ema": True, "ema_overwrite_frequency": None}
    before = chief.call(served.saved, shards[0], makes[0], case, path, **ema)
    after, later = chief.call(served.resumed, shards[1], makes[1], case, path, 4, **ema)
    assert_same(before, after)
    # Lamb's norms are those of a shard, so that another division trains otherwise.
    if "stock" not in makes and case.scope != "variable":
        alone = served.trained(0, "ours", case, 14, **ema)
        # An idle row's average takes k updates at once there, and one by one here.
        rounded = ("_model_variables_moving_average", "_variables")
        exact = [key for key in later if not key.startswith(rounded)]
        assert_same({k: later[k] for k in exact}, {k: alone[k] for k in exact})
        assert_same(later, alone, exact=False)


@kinds
def test_checkpoint_of_2_shards_loads_on_3(chief, case, path):
    check_checkpoint(chief, case, (2, 3), ("ours", "ours"), path)


MAKES = [("ours", "ours"), ("stock", "ours"), ("ours", "stock")]


@pytest.mark.parametrize("makes", MAKES, ids="-to-".join)
@pytest.mark.parametrize(
    "shards", [(2, 3), (2, 0), (0, 2), (3, 1)], ids=lambda n: f"{n[0]}-to-{n[1]}"
)
@one
def test_checkpoint_of_n_shards_loads_on_m(chief, case, shards, makes, path):
    """0 is one machine without servers."""
    check_checkpoint(chief, case, shards, makes, path)


@one
def test_exact_goes_on_from_a_checkpoint(chief, case, path):
    """Of 2 shards on 3; what it holds is up to date."""
    options = {"sparse_update": "exact"}
    before = chief.call(served.saved, 2, "ours", case, path, **options)
    after, later = chief.call(served.resumed, 3, "ours", case, path, 4, **options)
    assert_same(before, after)
    alone = served.trained(0, "ours", case, 14, sparse_update="dense")
    assert_same(later, alone, exact=False)


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "state")


@counters
def test_training_goes_on_without_a_killed_worker(cluster, chief, case):
    """What the worker had not answered is done again by others."""
    victim = cluster.tasks["worker", 1].process.pid
    options = moves_by_one(case)
    run = chief.call(served.counted, 2, case, 400, victim, **options)
    moved, named, steps, when_killed, _ = run
    assert when_killed < 400  # it had work
    cluster.start("worker", 1)
    cluster.tasks["worker", 1].wait_up()
    again = moved[:, 0] - named
    assert steps >= 400
    # At most what one worker had in hand is done twice.
    assert (again >= 0).all() and again.max() <= 2
    moved, named, *_ = chief.call(served.counted, 2, case, 50, **options)
    np.testing.assert_array_equal(moved[:, 0], named)


@exhaustive_twin
def test_training_resumes_after_a_killed_server(cluster, chiefs, path):
    """Nothing is lost but the steps since the checkpoint."""
    case = ADAM
    victim = cluster.tasks["ps", 1].process.pid
    raised, _ = chiefs().call(served.interrupted, 2, case, victim, path)
    assert raised in ("UnavailableError", "AbortedError"), raised
    cluster.start("ps", 1)
    chief = chiefs(anew=True)
    cluster.tasks["ps", 1].wait_up()
    _, state = chief.call(served.resumed, 2, "ours", case, path, 10)
    assert_same(state, served.trained(0, "ours", case, 20))


@exhaustive_twin
def test_servers_without_our_ops_are_named():
    """Before the first step has changed anything."""
    code = "from examples import local_cluster; local_cluster.run_server()"
    command = [sys.executable, "-c", code]
    jobs = {"chief": 1, "worker": 1, "ps": 1}
    with (
        local_cluster.Cluster(jobs, own="chief", command=command) as cluster,
        chief_of(cluster) as chief,
    ):
        cluster.wait()
        for said in chief.call(served.first_step, ADAM):
            assert "must run `import tf_optim`" in said
            assert "/job:ps/task:0" in said and "/job:worker/task:0" in said
