"""More than 2^31 elements on a GPU: where a 32-bit offset would wrap around."""

import pytest

from tests.gpu_states import ON_GPU, gpu

if not ON_GPU:
    pytest.skip("needs a GPU: see tests/gpu_check.py", allow_module_level=True)
torch = pytest.importorskip("torch")

ELEMENTS = 2**31 + 2**20 + 5
WIDTH = 128


def free_bytes():
    torch.cuda.empty_cache()
    return torch.cuda.mem_get_info()[0]


def sgd(var, grad, **options):
    gpu.apply(
        "SGD",
        [var],
        {},
        [grad],
        {"momentum_rate": torch.zeros((), dtype=torch.float64, device="cuda")},
        torch.tensor(0.5, device="cuda"),
        torch.tensor(0, device="cuda"),
        torch.tensor(float("inf"), dtype=torch.float64, device="cuda"),
        cuda=True,
        **options,
    )
    torch.cuda.synchronize()


def test_dense():
    if free_bytes() < 9 * ELEMENTS:
        pytest.skip("not enough memory")
    var = torch.full((ELEMENTS,), 2.0, device="cuda")
    grad = torch.ones(ELEMENTS, device="cuda")
    grad[-1], grad[2**31], grad[0] = 2.0, 3.0, 4.0
    sgd(var, grad)
    assert [var[i].item() for i in (-1, 2**31, 0, 1, -2)] == [1.0, 0.5, 0.0, 1.5, 1.5]
    assert torch.count_nonzero(var != 1.5).item() == 3


@pytest.mark.parametrize("mode", ("lazy", "dense"))
def test_sparse(mode):
    rows = ELEMENTS // WIDTH + 2
    if free_bytes() < 6 * rows * WIDTH:
        pytest.skip("not enough memory")
    var = torch.full((rows, WIDTH), 2.0, device="cuda")
    ids = torch.tensor([rows - 1, 0, 2**31 // WIDTH, rows - 1], device="cuda")
    sgd(var, torch.ones(4, WIDTH, device="cuda"), indices=[ids], mode=mode)
    changed = [var[i].unique().tolist() for i in (rows - 1, 0, 2**31 // WIDTH)]
    assert changed == [[1.0], [1.5], [1.5]]
    assert torch.count_nonzero(var != 2.0).item() == 3 * WIDTH
