"""Dtypes, devices, the tape, autocast, functions with their own backward, checkpoints, random numbers, defaults."""

from ..given import F, nn, program, rand, torch

torch.manual_seed(5)
X = rand(4, 3)
LAYER = nn.Linear(3, 3)


@program((X,), (rand(4, 3, seed=1),))
def converts_dtypes(x):
    return (x.double(), x.to(torch.bfloat16), x.int(), x.bool(), x.to(torch.float32) is x, x.type(torch.float16),
            x.type_as(x.double()))


@program((X, torch.float64), (X, torch.int64), (X, torch.float64))
def dtype_as_an_argument(x, dtype):
    y = x.to(dtype)
    return y + 1, y.dtype == dtype, dtype.is_floating_point, torch.finfo(x.dtype).eps, torch.zeros(2, dtype=dtype)


@program((X,), (X,))
def promotes(x):
    i = torch.arange(3)
    return (x + i, i / 2, i * 2.5, i + True, (x > 0) + 1, torch.result_type(i, 2.5), i.float().mean(),
            torch.promote_types(x.dtype, torch.int8))


@program((X,), (X,))
def devices(x):
    y = x.to("cpu").cpu().to(x.device)
    return y + torch.zeros(3, device=x.device), x.device.type, x.is_cuda, str(x.device), x.device == torch.device("cpu")


@program((rand(4, 3, grad=True),), (rand(4, 3, seed=1, grad=True),), backward=True)
def detaches(x):
    a = x.detach() * 2
    b = (x * x.detach()).sum()
    return a, b, a.requires_grad, x.requires_grad, b.requires_grad


@program((rand(4, 3, grad=True),), (rand(4, 3, seed=1, grad=True),), backward=True)
def no_grad_in_the_middle(x):
    y = x * 2
    with torch.no_grad():
        scale = y.abs().max()
    return y / scale, scale.requires_grad


@program((X,), (X,))
def requires_grad_in_the_region(x):
    w = torch.ones(3)
    w.requires_grad_()
    y = (x * w).sum()
    return y.requires_grad, w.requires_grad, w.is_leaf, y


@program((X,), (X,))
def inference_mode_inside(x):
    with torch.inference_mode():
        y = LAYER(x)
        inside = torch.is_inference_mode_enabled()
    return y * 1, inside, y.is_inference()


@program((X,), (X,))
def autocast_inside(x):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = LAYER(x)
        z = y.softmax(-1)
        with torch.autocast("cpu", enabled=False):
            w = x @ x.t()
    return y, z.dtype, w, torch.is_autocast_enabled("cpu")


@torch.autocast("cpu", dtype=torch.bfloat16)
def cast(x):
    return LAYER(x)


@program((X,), (X,))
def autocast_as_a_decorator(x):
    return cast(x).dtype, LAYER(x).dtype


class Cube(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x ** 3

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g * 30 * x ** 2                                     # not the true one, so that it shows


@program((rand(4, 3, grad=True),), (rand(4, 3, seed=1, grad=True),), backward=True)
def autograd_function(x):
    return Cube.apply(x) + x


class Scaled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, k, mode="a"):
        ctx.k, ctx.shape = k, x.shape
        ctx.mark_non_differentiable()
        return (x * k, x.sum()) if mode == "b" else x * k

    @staticmethod
    def backward(ctx, *grads):
        g = grads[0] * ctx.k * 2
        return g.reshape(ctx.shape), None, None


@program((rand(4, 3, grad=True), 2.0), (rand(4, 3, seed=1, grad=True), 3.0), backward=True)
def autograd_function_with_state(x, k):
    y, s = Scaled.apply(x, k, "b")
    return y + Scaled.apply(x, 2), s.detach()


class StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.round()

    @staticmethod
    def backward(ctx, g):
        return g.clamp(-1, 1)


@program((rand(4, 3, grad=True),), (rand(4, 3, seed=1, grad=True),), backward=True)
def straight_through_estimator(x):
    return StraightThrough.apply(x * 3) * 5


def block(x, w):
    return torch.relu(x @ w) @ w.t()


W = rand(3, 3, seed=5, grad=True)


@program((rand(4, 3, grad=True),), (rand(4, 3, seed=1, grad=True),), backward=True)
def checkpointed(x):
    y = torch.utils.checkpoint.checkpoint(block, x, W, use_reentrant=False)
    return torch.utils.checkpoint.checkpoint(block, y, W, use_reentrant=False)


@program((rand(4, 3, grad=True),), (rand(4, 3, seed=1, grad=True),), backward=True)
def checkpointed_module(x):
    return torch.utils.checkpoint.checkpoint(LAYER, x, use_reentrant=False).sin()


@program((X,), (X,), (X,), watch=lambda: torch.rand(2))
def random_numbers(x):
    return x + torch.rand(3), torch.randn_like(x), torch.randint(0, 5, (2,)), torch.bernoulli(torch.full((4,), 0.5))


@program((X,), (X,))
def seeds_inside(x):
    torch.manual_seed(4)
    a = torch.rand(2)
    torch.manual_seed(4)
    return a, torch.rand(2), x * 2


@program((X, True), (X, False), (X, True))
def dropout_by_argument(x, training):
    return F.dropout(x, 0.5, training=training), F.dropout(x, 0.0, training=True)


@program((X,), (X,))
def tensors_made_inside(x):
    return (torch.tensor([1.0, 2.0]), torch.tensor(3), torch.as_tensor([[1, 2]]), torch.arange(0, 6, 2), torch.linspace(0, 1, 3),
            torch.eye(3) @ x.t(), torch.ones_like(x), x.new_zeros(2), torch.full((2,), 1.5), torch.tensor([[x.shape[0], 1]]))


@program((X,), (X,))
def scalar_facts(x):
    return (x.dim(), x.ndim, x.numel(), x.size(0), x.size(), x.shape[-1], len(x), x.element_size(), x.nelement(),
            x.is_floating_point(), x.is_complex(),
            x.dtype, x.layout == torch.strided, torch.is_tensor(x), x.requires_grad, x.is_leaf, x.itemsize)


@program((torch.complex(X, X),), (torch.complex(X, X + 1),))
def complex_tensors(z):
    return z.real + 1, z.imag * 2, z.conj().resolve_conj() * z, z.abs(), torch.view_as_real(z).sum(-1), z.angle()


@program((X,), (X,))
def default_dtype_changed_inside(x):
    torch.set_default_dtype(torch.float64)
    try:
        y = torch.ones(3) * 2
    finally:
        torch.set_default_dtype(torch.float32)
    return x + y, torch.get_default_dtype()


@program((rand(4, 3, grad=True),), (rand(4, 3, seed=1, grad=True),), backward=True)
def gradients_flow_where_they_should(x):
    a, b, c = x.split(1, dim=1)
    with torch.no_grad():
        b = b * 2
    c = c.detach().requires_grad_()
    d = torch.where(a > 0, a, b)
    return d, (c * 2).requires_grad, a.clamp(min=0) + x.mean()


@program((X,), (X,))
def set_grad_enabled_as_a_call(x):
    torch.set_grad_enabled(False)
    y = LAYER(x)
    torch.set_grad_enabled(True)
    z = LAYER(x)
    return y.requires_grad, z.requires_grad, y


@program((rand(4, 3, grad=True),), (rand(4, 3, grad=True),), backward=True)
def double_where_and_nan_safe(x):
    safe = torch.where(x > 0, x, torch.ones_like(x))
    return torch.where(x > 0, safe.log(), torch.zeros_like(x)).nan_to_num()


@program((X,), (X,))
def tolerant_comparisons(x):
    return torch.allclose(x, x + 1e-9), torch.equal(x, x), bool((x == x).all()), torch.isclose(x, x).all()


@program((X,), (X,))
def attributes_stored_on_a_tensor(x):
    y = x * 2
    y.tag = "a"
    y.extra = x
    return y.tag, y.extra + 1, hasattr(y, "other"), getattr(y, "none", 3)


@program((rand(4, 3, grad=True),), (rand(4, 3, seed=1, grad=True),))
def gradient_assigned_inside(x):
    x.grad = torch.ones_like(x) * 3
    y = x.grad * 2
    x.grad = None if y.sum().dim() else x.grad
    return y, x.grad is None


@program((X,), (X,))
def functional_rng_state(x):
    state = torch.get_rng_state()
    a = torch.rand(2)
    torch.set_rng_state(state)
    return torch.equal(a, torch.rand(2)), x + 1
