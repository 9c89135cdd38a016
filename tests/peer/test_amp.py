"""autocast and GradScaler beside PyTorch: the dtypes of results, and a training run."""

from __future__ import annotations

import pytest

import flambeau as fl

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.peer

A, B, V, IMAGE = (3, 4), (4, 5), (4,), (2, 3, 8, 8)
CALLS = {
    "mm": (lambda t, x: t.mm(x(A), x(B)),), "matmul": (lambda t, x: x(A) @ x(B),),
    "bmm": (lambda t, x: t.bmm(x((2, *A)), x((2, *B))),),
    "mv": (lambda t, x: t.mv(x(A), x(V)),), "dot": (lambda t, x: t.dot(x(V), x(V)),),
    "outer": (lambda t, x: t.outer(x(V), x(V)),),
    "addmm": (lambda t, x: t.addmm(x((5,)), x(A), x(B)),), "baddbmm": (lambda t, x: t.baddbmm(x((5,)), x((2, *A)), x((2, *B))),),
    "addbmm": (lambda t, x: t.addbmm(x((3, 5)), x((2, *A)), x((2, *B))),), "addmv": (lambda t, x: t.addmv(x((3,)), x(A), x(V)),),
    "linear": (lambda t, x: t.nn.functional.linear(x(A), x((6, 4)), x((6,))),),
    "conv1d": (lambda t, x: t.nn.functional.conv1d(x((2, 3, 8)), x((4, 3, 3))),),
    "conv2d": (lambda t, x: t.nn.functional.conv2d(x(IMAGE), x((4, 3, 3, 3)), x((4,))),),
    "conv_transpose2d": (lambda t, x: t.nn.functional.conv_transpose2d(x(IMAGE), x((3, 4, 3, 3)), x((4,))),),
    "prelu": (lambda t, x: t.nn.functional.prelu(x(A), x((1,))),),
    "attention": (lambda t, x: t.nn.functional.scaled_dot_product_attention(x((2, 3, 4)), x((2, 3, 4)), x((2, 3, 4))),),
    "einsum": (lambda t, x: t.einsum("ij,jk->ik", x(A), x(B)),), "tensordot": (lambda t, x: t.tensordot(x(A), x(B), 1),),
    "softmax": (lambda t, x: t.softmax(x(A), 1),), "exp": (lambda t, x: t.exp(x(A)),), "sum": (lambda t, x: t.sum(x(A)),),
    "prod": (lambda t, x: t.prod(x(A), 1),), "cumsum": (lambda t, x: t.cumsum(x(A), 1),), "pow": (lambda t, x: x(A) ** 2,),
    "gelu": (lambda t, x: t.nn.functional.gelu(x(A)),), "add": (lambda t, x: x(A) + x(V),),
    "layer_norm": (lambda t, x: t.nn.functional.layer_norm(x(A), (4,)),),
    "batch_norm": (lambda t, x: t.nn.functional.batch_norm(x(A), None, None, x(V), x(V), True),),
    "max_pool2d": (lambda t, x: t.nn.functional.max_pool2d(x(IMAGE), 2),),
    "avg_pool2d": (lambda t, x: t.nn.functional.avg_pool2d(x(IMAGE), 2),),
    "cat": (lambda t, x: t.cat([x(A), t.ones(A)]),), "stack": (lambda t, x: t.stack([x(A), t.ones(A)]),),
    "cross_entropy": (lambda t, x: t.nn.functional.cross_entropy(x(A), t.tensor([0, 1, 2])),),
    "nll_loss": (lambda t, x: t.nn.functional.nll_loss(x(A), t.tensor([0, 1, 2])),),
    **{name: (lambda t, x, name=name: getattr(t.nn.functional, name)(x(A), x(A)),) for name in (
        "mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "binary_cross_entropy_with_logits", "kl_div", "soft_margin_loss",
        "poisson_nll_loss", "hinge_embedding_loss")},
    "triplet_margin_loss": (lambda t, x: t.nn.functional.triplet_margin_loss(x(A), x(A), x(A)),),
    "cdist": (lambda t, x: t.cdist(x(A), x((5, 4))),),
    "multi_head": (lambda t, x: t.nn.functional.multi_head_attention_forward(
        x((3, 2, 4)), x((3, 2, 4)), x((3, 2, 4)), 4, 2, x((12, 4)), x((12,)), None, None, False, 0.0, x((4, 4)), x((4,)))[0],),
}


def dtype_of(t, call, dtype, region):
    def tensor(shape):
        return t.ones(shape, dtype=getattr(t, dtype))
    with t.autocast("cpu", dtype=getattr(t, region)):
        return str(call(t, tensor).dtype)


@pytest.mark.parametrize("region", ["bfloat16", "float16"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", CALLS)
def test_results_have_the_dtypes_of_pytorch(name, dtype, region):
    call, = CALLS[name]
    try:
        expected = dtype_of(torch, call, dtype, region)
    except RuntimeError:
        pytest.skip("PyTorch does not run it")
    assert dtype_of(fl, call, dtype, region) == expected


def train(t, dtype):
    t.manual_seed(0)
    model = t.nn.Sequential(t.nn.Conv2d(1, 4, 3), t.nn.BatchNorm2d(4), t.nn.ReLU(), t.nn.Flatten(), t.nn.Linear(64, 3))
    optimizer = t.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    scaler = t.amp.GradScaler("cpu", init_scale=256.0, growth_interval=3)
    x, y = t.randn(16, 1, 6, 6), t.arange(16) % 3
    losses = []
    for _ in range(10):
        optimizer.zero_grad()
        with t.autocast("cpu", dtype=getattr(t, dtype)):
            loss = t.nn.functional.cross_entropy(model(x), y)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        losses.append(loss.item())
    return losses, scaler.get_scale()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_training_run(dtype):
    (ours, scale), (theirs, scale_theirs) = train(fl, dtype), train(torch, dtype)
    assert scale == scale_theirs and ours == pytest.approx(theirs, rel=0.03 if dtype == "bfloat16" else 0.01)
