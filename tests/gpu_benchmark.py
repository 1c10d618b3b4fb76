"""Times the GPU kernels on this machine: python tests/gpu_benchmark.py --json FILE

Needs a GPU, nvcc, NumPy and torch; neither Bazel nor TensorFlow. In one run and
interleaved round by round, so that ratios mean something:

    dense   every rule on one large variable, as a fraction of the bandwidth of a copy
            within the device; torch's fused or foreach optimizers beside it
    lists   300 variables of 256, and BERT-base
    sparse  1M x 64 and 10M x 128, 65,536 and 1M ids, uniform and Zipf; beside them
            torch.SparseAdam, and a floor: to gather the same rows of the variable and
            its slots and to scatter them back, without a sort, a sum or a rule

Times are of the device's queue (CUDA events around several steps), so a step that the
host cannot feed fast enough shows the host's time. A subject whose name ends in "graph"
is the same step captured in a CUDA graph: the device's time alone, of both sides, where
torch's optimizer can be captured. `--library FILE` takes a _gpu.so that is already
built, `--quick` fewer rounds, `--only TEXT` cases so named. The file is written anew
after each case.
"""

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests import gpu_build, gpu_library  # noqa: E402

HYPER = {
    "beta_1": 0.9,
    "beta_2": 0.999,
    "epsilon": 1e-7,
    "rho": 0.9,
    "momentum_rate": 0.9,
    "learning_rate_power": -0.5,
    "mu": 0.9,
    "mu_next": 0.9,
    "mu_product": 0.5,
    "beta_3": 0.99,
    "slow_beta": 0.9999,
    "slow_share": 5.0,
    "sma_threshold": 5.0,
    "eta_minus": 0.5,
    "eta_plus": 1.2,
    "max_step": 50.0,
    "trust_coefficient": 1e-3,
    "layer_adaptation": 1.0,
    "alpha": 100.0,
}

# rule -> (slots, torch's optimizer and its arguments)
DENSE = {
    "SGD": ((), ("SGD", {"fused": True})),
    "SGD-momentum": (("momentum",), ("SGD", {"momentum": 0.9, "fused": True})),
    "Adam": (("momentum", "velocity"), ("Adam", {"fused": True})),
    "AdamW": (("momentum", "velocity"), ("AdamW", {"fused": True})),
    "Adagrad": (("accumulator",), ("Adagrad", {"foreach": True})),
    "RMSprop": (("velocity",), ("RMSprop", {"foreach": True})),
    "Adamax": (("momentum", "norm"), ("Adamax", {"foreach": True})),
    "Nadam": (("momentum", "velocity"), ("NAdam", {"foreach": True})),
    "Adadelta": (
        ("accumulated_grad", "accumulated_delta_var"),
        ("Adadelta", {"foreach": True}),
    ),
    "Ftrl": (("accumulator", "linear"), None),
    "Lion": (("momentum",), None),
    "Lamb": (("momentum", "velocity"), None),
    "LARS": (("momentum",), None),
    "Yogi": (("momentum", "velocity"), None),
    "RectifiedAdam": (("momentum", "velocity"), ("RAdam", {"foreach": True})),
    "AdaBelief": (("momentum", "variance"), None),
    "Adopt": (("momentum", "velocity"), None),
    "Adan": (("momentum", "difference", "velocity", "previous_gradient"), None),
    "AdEMAMix": (("momentum", "velocity", "slow_momentum"), None),
    "ProximalAdagrad": (("accumulator",), None),
    "Rprop": (("direction", "step_size"), ("Rprop", {"foreach": True})),
    "ASGD": (("mean_var",), ("ASGD", {"foreach": True})),
    "ScheduleFreeAdamW": (("momentum", "velocity"), None),
    "COCOB": (("gradient_sum", "largest", "total", "reward", "offset"), None),
    "RowWiseAdagrad": (("accumulator",), None),
    "RowWiseAdam": (("momentum", "velocity"), None),
    "Adam-cautious": (("momentum", "velocity"), None),
    "Lion-cautious": (("momentum",), None),
}
ROW_SLOTS = {("RowWiseAdagrad", "accumulator"), ("RowWiseAdam", "velocity")}
SPARSE = ("Adam", "RowWiseAdagrad", "Adagrad", "SGD")
# Measured first, in case the time runs out.
TELLING = ("SGD", "Adam", "Adagrad", "Lamb", "RowWiseAdagrad")
# Streams that means over the variable cost: Lamb's first pass writes both slots, so its
# second reads them and the variable again (10 in all); LARS reads both twice (7);
# cautious steps read the gradient and their slots twice.
MEASURED = {"Lamb": 3, "LARS": 2, "Adam-cautious": 3, "Lion-cautious": 2}

BERT_BASE = (
    [(30522, 768), (512, 768), (2, 768), (768,), (768,)]
    + 12
    * (
        [(768, 768), (768,)] * 4
        + [(768,), (768,), (768, 3072), (3072,), (3072, 768), (768,), (768,), (768,)]
    )
    + [(768, 768), (768,)]
)


def tensors(shapes):
    return [torch.rand(shape, device="cuda") * 0.1 + 0.05 for shape in shapes]


def number(value):
    return torch.tensor(value, dtype=torch.float64, device="cuda")


def slot_shape(name, slot, shape):
    return shape[:1] if (name, slot) in ROW_SLOTS else shape


def ours(library, name, shapes, indices=None):
    """A function that does one step of our kernels, and the bytes it has to move."""
    rule = {"AdamW": "Adam"}.get(name, name.split("-")[0])
    slots = DENSE[name][0]
    names = library.rules[rule]["hyper"]
    hyper = {key: number(HYPER.get(key, 0.0)) for key in names}
    var = tensors(shapes)
    state = {
        s: tensors([slot_shape(name, s, shape) for shape in shapes]) for s in slots
    }
    if indices is None:
        grad = tensors(shapes)
        touched = [v.numel() for v in var]
        extra = 0
    else:
        grad = tensors(
            [(len(i), shape[1]) for i, shape in zip(indices, shapes, strict=True)]
        )
        unique = [i.unique().numel() for i in indices]
        touched = [n * shape[1] for n, shape in zip(unique, shapes, strict=True)]
        extra = sum(i.numel() * i.element_size() for i in indices)
    full = 1 + sum(slot_shape(name, s, (1, 1)) == (1, 1) for s in slots)
    streams = 2 * full + MEASURED.get(name, 0)
    moved = 4 * (streams * sum(touched) + sum(g.numel() for g in grad)) + extra
    step = library.prepare(
        rule,
        var,
        state,
        grad,
        hyper,
        torch.tensor(1e-3, device="cuda"),
        torch.tensor(3, device="cuda"),
        number(float("inf")),
        indices=indices,
        flags={"cautious": name.endswith("-cautious")},
        weight_decay=number([0.01] * len(var)) if name == "AdamW" else None,
        cuda=True,
        stream=torch.cuda.current_stream().cuda_stream,
    )
    return step, moved


def with_graph(name, step):
    """`{name: step}`, and the step as a CUDA graph if it can be one."""
    for _ in range(3):  # what is made at the first step must not be captured
        step()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(
            graph,
            stream=torch.cuda.current_stream(),
            capture_error_mode="thread_local",
        ):
            step()
    except RuntimeError as error:
        print(f"{name} cannot be captured: {str(error).splitlines()[0]}", flush=True)
        torch.cuda.synchronize()
        return {name: step}
    return {name: step, f"{name} graph": graph.replay}


def peer(name, shapes):
    """torch's step; its state on the device where it lets a graph have it."""
    kind, arguments = DENSE[name][1]
    parameters = [torch.nn.Parameter(t) for t in tensors(shapes)]
    for parameter, grad in zip(parameters, tensors(shapes), strict=True):
        parameter.grad = grad
    optimizer = getattr(torch.optim, kind)
    try:
        return optimizer(parameters, lr=1e-3, capturable=True, **arguments).step
    except (TypeError, RuntimeError):
        return optimizer(parameters, lr=1e-3, **arguments).step


def gather_and_scatter(name, shape, ids):
    """The floor of a sparse step: each row that it names, there and back."""
    rows = ids.unique()
    shapes = [shape, *(slot_shape(name, slot, shape) for slot in DENSE[name][0])]
    tables = tensors(shapes)

    def step():
        for table in tables:
            table.index_copy_(0, rows, table.index_select(0, rows))

    return step


def sparse_adam(shape, ids):
    parameter = torch.nn.Parameter(torch.rand(shape, device="cuda"))
    values = torch.rand((len(ids), shape[1]), device="cuda")
    grad = torch.sparse_coo_tensor(ids[None].long(), values, shape)
    optimizer = torch.optim.SparseAdam([parameter], lr=1e-3)

    def step():
        # A fresh one each time, as a backward pass makes it: not yet coalesced.
        parameter.grad = torch.sparse_coo_tensor(grad._indices(), values, shape)
        optimizer.step()

    return step


def seconds(step, steps):
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(steps):
        step()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1000 / steps


class Runner:
    def __init__(self, options, bandwidth_of_copy):
        self.rounds = 5 if options.quick else 25
        self.only = options.only
        self.copy = bandwidth_of_copy
        self.rows = []
        self.report = None  # called after each case

    def wants(self, case):
        return self.only in case

    def measure(self, case, subjects, moved):
        """`subjects`: name -> function; ours first. All take turns."""
        steps = {}
        for name, step in subjects.items():
            for _ in range(3):
                step()
            steps[name] = max(1, min(200, int(0.02 / seconds(step, 3))))
        times = {name: [] for name in subjects}
        for _ in range(self.rounds):
            for name, step in subjects.items():
                times[name].append(seconds(step, steps[name]))
        for name, values in times.items():
            quartiles = statistics.quantiles(values, n=4)
            ratios = [v / o for v, o in zip(values, times["ours"], strict=True)]
            self.rows.append(
                {
                    "case": case,
                    "subject": name,
                    "seconds": statistics.median(values),
                    "quartiles": [quartiles[0], quartiles[2]],
                    "times_ours": statistics.median(ratios),
                    "fraction_of_copy": moved / statistics.median(values) / self.copy,
                }
            )
            row = self.rows[-1]
            print(
                f"{case:48} {name:16} {row['seconds'] * 1e6:10.1f} us "
                f"{row['fraction_of_copy']:6.1%} of a copy {row['times_ours']:6.2f}x",
                flush=True,
            )
        self.report()


def copy_bandwidth():
    """Bytes read and written per second by a copy within the device."""
    source = torch.empty(2**28, device="cuda")
    target = torch.empty_like(source)
    best = min(seconds(lambda: target.copy_(source), 5) for _ in range(10))
    return 2 * source.numel() * source.element_size() / best


def ids_of(kind, rows, count, rng):
    if kind == "uniform":
        ids = rng.integers(0, rows, count)
    else:  # rank r with a probability of 1 / r, the ranks spread over the table
        ranks = np.exp(rng.uniform(0, np.log(rows), count)).astype(np.int64)
        ids = ranks * 2654435761 % rows
    return torch.from_numpy(ids).cuda()


def run_dense(library, runner, names):
    for name in names:
        case = f"dense {name} 67M"
        if not runner.wants(case):
            continue
        shapes = [(2**20, 64)]
        step, moved = ours(library, name, shapes)
        subjects = {"ours": step}
        if DENSE[name][1]:
            subjects["torch"] = peer(name, shapes)
        runner.measure(case, subjects, moved)


def run_lists(library, runner):
    for title, shapes in (("300 x 256", [(256,)] * 300), ("BERT-base", BERT_BASE)):
        for name in ("Adam", "AdamW", "SGD-momentum", "RMSprop", "Lamb"):
            case = f"list {name} {title}"
            if not runner.wants(case):
                continue
            step, moved = ours(library, name, shapes)
            subjects = with_graph("ours", step)
            if DENSE[name][1]:
                subjects |= with_graph("torch", peer(name, shapes))
            runner.measure(case, subjects, moved)


def run_sparse(library, runner):
    rng = np.random.default_rng(0)
    for rows, width in ((10**6, 64), (10**7, 128)):
        for count in (65_536, 10**6):
            for kind in ("uniform", "zipf"):
                ids = ids_of(kind, rows, count, rng)
                for name in SPARSE:
                    case = f"sparse {name} {rows:.0e} x {width}, {count} {kind}"
                    if not runner.wants(case):
                        continue
                    shape = (rows, width)
                    step, moved = ours(library, name, [shape], [ids])
                    subjects = with_graph("ours", step)
                    floor = gather_and_scatter(name, shape, ids)
                    subjects |= with_graph("floor", floor)
                    if name == "Adam":
                        subjects["torch"] = sparse_adam(shape, ids)
                    runner.measure(case, subjects, moved)
                    del step, floor, subjects
                    torch.cuda.empty_cache()


def run_all(library, runner):
    run_dense(library, runner, TELLING)
    run_lists(library, runner)
    run_sparse(library, runner)
    run_dense(library, runner, [name for name in DENSE if name not in TELLING])


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", help="where to write the figures")
    parser.add_argument("--library", help="a _gpu.so built before")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = options.library or gpu_build.build(folder)
        library = gpu_library.Library(Path(path).resolve())
        library.use_device()
        about = {
            "device": torch.cuda.get_device_name(),
            "torch": torch.__version__,
            "cuda": torch.version.cuda,
            "copy_bytes_per_second": copy_bandwidth(),
        }
        print(about)
        runner = Runner(options, about["copy_bytes_per_second"])

        def report():
            if options.json:
                whole = {"about": about, "rows": runner.rows}
                Path(options.json).write_text(json.dumps(whole, indent=1) + "\n")

        runner.report = report
        # A graph is not captured on the default stream.
        with torch.cuda.stream(torch.cuda.Stream()):
            run_all(library, runner)


if __name__ == "__main__":
    main()
