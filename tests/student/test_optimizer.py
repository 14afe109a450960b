"""AdamW with fp32 masters against torch's own."""

from __future__ import annotations

import pytest
import torch

from zppo.config import OptimizerConfig
from zppo.student.optimizer import MasterAdamW

CONFIG = OptimizerConfig(lr=0.01, weight_decay=0.1, max_grad_norm=1.0)


def parameters(dtype):
    generator = torch.Generator().manual_seed(0)
    shapes = [(5, 3), (7,), (2, 2)]
    return [torch.randn(s, generator=generator).to(dtype).requires_grad_() for s in shapes]


def gradients(step, dtype):
    generator = torch.Generator().manual_seed(100 + step)
    return [torch.randn(s, generator=generator).to(dtype) for s in [(5, 3), (7,), (2, 2)]]


def backward(params, grads):
    """Gradients through autograd, as in training: the hooks see them."""
    sum((p * g).sum() for p, g in zip(params, grads, strict=True)).backward()


def take(optimizer, steps):
    for step in steps:
        optimizer.zero_grad()
        backward(optimizer.params, gradients(step, optimizer.params[0].dtype))
        optimizer.clip()
        optimizer.step()


def reference(params, steps, dtype):
    """torch's AdamW on fp32 copies, fed the same (possibly rounded) gradients."""
    params = [p.detach().float().requires_grad_() for p in params]
    adamw = torch.optim.AdamW(params, lr=0.01, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.1)
    norms = []
    for step in steps:
        for p, g in zip(params, gradients(step, dtype), strict=True):
            p.grad = g.float()
        norms.append(float(torch.nn.utils.clip_grad_norm_(params, 1.0)))
        adamw.step()
    return params, norms


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_steps_equal_torch_adamw_in_fp32(dtype):
    optimizer = MasterAdamW(parameters(dtype), CONFIG)
    take(optimizer, range(5))
    expected, _ = reference(parameters(dtype), range(5), dtype)
    for param, master, right in zip(optimizer.params, optimizer.masters, expected, strict=True):
        assert master.dtype == torch.float32
        torch.testing.assert_close(master, right, atol=0, rtol=0)
        assert torch.equal(param, right.to(dtype))
    assert all((p is m) == (dtype == torch.float32) for p, m in zip(
        optimizer.params, optimizer.masters, strict=True
    ))  # fmt: skip


def test_clip_returns_the_norm_before_clipping():
    optimizer = MasterAdamW(parameters(torch.float32), CONFIG)
    assert optimizer.clip() == 0.0  # no gradient yet
    backward(optimizer.params, gradients(0, torch.float32))
    _, (norm,) = reference(parameters(torch.float32), [0], torch.float32)
    assert optimizer.clip() == pytest.approx(norm) and norm > 1
    assert optimizer.clip() == pytest.approx(1.0, abs=1e-5)


def test_micro_batches_add_up_in_fp32():
    """A bf16 sum would lose the small gradient beside the large one."""
    param = torch.zeros(4, dtype=torch.bfloat16, requires_grad=True)
    optimizer = MasterAdamW([param], CONFIG)
    (param * 1.0).sum().backward()
    for _ in range(8):
        (param * 2.0**-10).sum().backward()
    assert param.grad is None  # moved, never kept twice
    assert optimizer.masters[0].grad.tolist() == [1.0 + 2.0**-7] * 4
    assert torch.tensor(1.0).bfloat16() + torch.tensor(2.0**-10).bfloat16() == 1.0


def test_zero_gradient_still_takes_its_step_and_none_does_not():
    moved, still = parameters(torch.float32)[:2]
    optimizer = MasterAdamW([moved, still], CONFIG)
    moved.sum().backward()
    optimizer.step()
    before = moved.detach().clone()
    optimizer.zero_grad()
    optimizer.step()
    assert not torch.equal(moved, before)  # momentum and decay
    assert torch.equal(still, parameters(torch.float32)[1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_state_round_trip_is_exact(dtype, tmp_path):
    straight = MasterAdamW(parameters(dtype), CONFIG)
    take(straight, range(6))
    first = MasterAdamW(parameters(dtype), CONFIG)
    take(first, range(3))
    torch.save(first.state_dict(), tmp_path / "optimizer.pt")
    # The weights come from the model's own checkpoint.
    second = MasterAdamW([p.detach().clone().requires_grad_() for p in first.params], CONFIG)
    state = torch.load(tmp_path / "optimizer.pt", map_location="cpu", weights_only=True)
    second.load_state_dict(state)
    take(second, range(3, 6))
    for one, two in zip(straight.masters, second.masters, strict=True):
        assert torch.equal(one, two)
    for one, two in zip(straight.params, second.params, strict=True):
        assert torch.equal(one, two)


def test_settings_are_those_of_the_run_that_loads():
    first = MasterAdamW(parameters(torch.float32), CONFIG)
    take(first, [0])
    slower = CONFIG.model_copy(update={"lr": 1e-3, "weight_decay": 0.0})
    second = MasterAdamW(parameters(torch.float32), slower)
    second.load_state_dict(first.state_dict())
    (group,) = second.adamw.param_groups
    assert group["lr"] == 1e-3 and group["weight_decay"] == 0.0


def test_a_run_may_change_its_dtype():
    low = MasterAdamW(parameters(torch.bfloat16), CONFIG)
    take(low, range(2))
    # As `LocalStudent.load` leaves them: the rounded weights in the new dtype.
    full = MasterAdamW([p.detach().float().requires_grad_() for p in low.params], CONFIG)
    full.load_state_dict(low.state_dict())
    for param, master in zip(full.params, low.masters, strict=True):
        assert torch.equal(param, master)
    back = MasterAdamW([p.detach().bfloat16().requires_grad_() for p in full.params], CONFIG)
    back.load_state_dict(full.state_dict())
    for param, master in zip(back.params, back.masters, strict=True):
        assert torch.equal(param.float(), master)
    take(full, [2])
    take(back, [2])


def test_state_of_another_model_is_refused():
    optimizer = MasterAdamW(parameters(torch.bfloat16), CONFIG)
    take(optimizer, [0])
    other = MasterAdamW(parameters(torch.bfloat16)[:2], CONFIG)
    with pytest.raises(ValueError):
        other.load_state_dict(optimizer.state_dict())
