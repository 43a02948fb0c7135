"""The pretended device keeps the rules of a real one, as torch documents them or says in its errors."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from support.pretended import REAL, pretended

pytestmark = pytest.mark.skipif(REAL is not None, reason="a real accelerator tells by itself")


def test_tensors_are_where_they_were_asked_to_be() -> None:
    with pretended() as traffic:
        made = torch.zeros(2, 3, device="cuda")
        assert made.device == torch.device("cuda:0") and made.is_cuda
        assert (made + 1).device == torch.ones_like(made).device == made.new_zeros(1).device == made.device
        assert torch.zeros_like(made, device="cpu").device.type == torch.zeros(2).device.type == "cpu"
        assert traffic.counts == (0, 0)
        assert torch.ones(2).to("cuda").cpu().tolist() == [1, 1]
        assert torch.tensor([1.0, 2.0], device="cuda").sum().item() == 3


def test_what_is_there_already_is_not_copied() -> None:
    with pretended() as traffic:
        made = torch.zeros(2, device="cuda")
        assert made.to("cuda") is made and made.to(made.device) is made and made.cuda() is made
        assert made.to(made) is made
        assert made.to("cuda", torch.float16).dtype == torch.float16
        assert traffic.counts == (0, 0)


def test_new_data_of_another_type_are_the_tensors() -> None:
    with pretended():
        weight = nn.Linear(2, 2).to("cuda", torch.bfloat16).weight
        weight.data = weight.data.float()
        assert weight.dtype == weight.detach().dtype == weight.data.dtype == (weight + 0).dtype == torch.float32


@pytest.mark.parametrize(
    "operation",
    [
        lambda device, cpu: device + cpu,
        lambda device, cpu: torch.where(device > 0, device, cpu),
        lambda device, cpu: torch.cat([device, cpu]),
        lambda device, cpu: device.view(1, 2) @ cpu.view(2, 1),
        lambda device, cpu: cpu.add_(device),
        lambda device, cpu: torch.stack([device[0], cpu[0]]),  # a number, but no pointwise operation
        lambda device, cpu: cpu[0].add_(device[0]),
        lambda device, cpu: device[0] + cpu,  # a number of the device is none to the CPU
        lambda device, cpu: nn.functional.linear(device, torch.ones(1, 2)),
    ],
)
def test_devices_do_not_mix(operation) -> None:
    with pretended(), pytest.raises(RuntimeError, match="on the same device"):
        operation(torch.zeros(2, device="cuda"), torch.zeros(2))


def test_a_cpu_tensor_without_dimensions_counts_as_a_number() -> None:
    with pretended() as traffic:
        device, number = torch.zeros(2, device="cuda"), torch.tensor(2.0)
        device += number
        device.masked_fill_(device < 1, number)
        assert (device * number).device == torch.where(device > 0, device, number).device == device.device
        assert traffic.counts == (0, 0)


def test_indices_may_be_on_the_cpu_and_are_copied() -> None:
    with pretended() as traffic:
        device, rows = torch.arange(3.0, device="cuda"), torch.tensor([2, 0])
        assert device[rows].device == device.device
        assert traffic.counts == (0, 1)
        device[[0, 1]]
        assert traffic.counts == (0, 2)
        with pytest.raises(RuntimeError, match="indices should be either on cpu"):
            torch.arange(3.0)[rows.to("cuda")]
        with pytest.raises(RuntimeError, match="on the same device"):
            device.gather(0, rows)


def test_numbers_and_shapes_that_depend_on_values_wait_for_the_device() -> None:
    with pretended() as traffic:
        device = torch.arange(3.0, device="cuda")
        for wait in (
            lambda: device[0].item(), lambda: bool(device[0] > 0), lambda: device.tolist(), device.cpu,
            device.nonzero, lambda: device[device > 0], device.unique, lambda: torch.equal(device, device),
            lambda: torch.zeros(3).copy_(device),
        ):  # fmt: skip
            before = traffic.counts[0]
            wait()
            assert traffic.counts[0] == before + 1
        device[device > 0] = 0.0  # a fill by the mask
        assert traffic.counts == (9, 0)


def test_numpy_wants_the_cpu() -> None:
    with pretended():
        with pytest.raises(TypeError, match="can't convert cuda:0 device type tensor to numpy"):
            torch.zeros(2, device="cuda").numpy()
        assert torch.zeros(2, device="cuda").cpu().numpy().tolist() == [0, 0]


def test_a_generator_belongs_to_a_device() -> None:
    generator = torch.Generator().manual_seed(0)
    with pretended(), pytest.raises(RuntimeError, match="Expected a 'cuda' device type for generator"):
        torch.randn(2, device="cuda", generator=generator)
    with pretended():
        assert torch.randn(2, generator=generator).to("cuda").shape == (2,)


def test_mps_has_no_double() -> None:
    with pretended("mps"):
        single = torch.ones(2, device="mps")
        assert single.is_mps
        for double in (
            lambda: single.double(), lambda: torch.zeros(2, dtype=torch.float64, device="mps"),
            lambda: torch.zeros(2, dtype=torch.float64).to("mps"),
        ):  # fmt: skip
            with pytest.raises(TypeError, match="doesn't support float64"):
                double()
        number = torch.tensor(2.0, dtype=torch.float64)
        assert (single * number).dtype == torch.zeros(2, dtype=torch.float64).to("mps", torch.float32).dtype
        assert single.cpu().double().sum() == 2


def test_a_lazy_conjugate_is_one() -> None:
    turn, point = torch.polar(torch.ones(3), torch.arange(3.0)), torch.randn(3, 2)

    def gradient(point: torch.Tensor, turn: torch.Tensor) -> torch.Tensor:
        leaf = point.requires_grad_()
        (found,) = torch.autograd.grad(torch.view_as_real(torch.view_as_complex(leaf) * turn)[:, 0].sum(), leaf)
        return found

    with pretended():
        there = turn.to("cuda")
        assert torch.equal(gradient(point.to("cuda"), there).cpu(), gradient(point, turn))
        assert torch.equal(there.conj().imag.cpu(), turn.conj().imag)


def test_modules_move_and_gradients_come_back_also_through_checkpoints() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.GroupNorm(2, 4), nn.Linear(4, 1))
    point = torch.randn(2, 3)
    expected = torch.autograd.functional.jacobian(lambda x: model(x).sum(), point)
    with pretended():
        there = copy.deepcopy(model).to("cuda")
        assert all(isinstance(weight, nn.Parameter) and weight.is_cuda for weight in there.parameters())
        assert isinstance(copy.deepcopy(there)[0].weight, nn.Parameter)
        leaf = point.to("cuda").requires_grad_()
        out = checkpoint(there, leaf, use_reentrant=False, preserve_rng_state=False)
        (gradient,) = torch.autograd.grad(out.sum(), leaf)
        assert torch.equal(gradient.cpu(), expected)
        again = checkpoint(lambda x: x * torch.arange(3.0, device=x.device), leaf, use_reentrant=False)
        assert torch.autograd.grad(again.sum(), leaf)[0][0].tolist() == [0, 1, 2]
        part = torch.zeros(2, 5, 3).to("cuda")[:, 1:3].requires_grad_()  # a move to where it is leaves its layout
        steps = set()

        def noted(x: torch.Tensor) -> torch.Tensor:
            steps.add(x.to("cuda:0", torch.float32).stride())
            return x.sin().exp()

        torch.autograd.grad(checkpoint(noted, part, use_reentrant=False).sum(), part)
        assert steps == {(15, 3, 1)}
        there(leaf).sum().backward()
        assert there[0].weight.grad.is_cuda
        query = torch.randn(1, 2, 4, 8).to("cuda")
        attended = nn.functional.scaled_dot_product_attention(query, query, query, is_causal=True)
        assert attended.device == query.device
    assert torch.equal(pickle.loads(pickle.dumps(there[0].weight.detach())), model[0].weight)
