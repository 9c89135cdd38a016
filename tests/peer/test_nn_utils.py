"""Parametrizations, norms of weights, pruning, clipping and fusion beside PyTorch's."""

from __future__ import annotations

import copy

import numpy as np
import pytest

import flambeau as fl

torch = pytest.importorskip("torch")
pytest.importorskip("torch.nn.utils.prune")

pytestmark = [pytest.mark.peer, pytest.mark.filterwarnings("ignore")]


def both(build):
    """What ``build(library)`` gives in PyTorch and here, from the same seed."""
    results = []
    for t in (torch, fl):
        t.manual_seed(0)
        results.append(build(t))
    return results


def numbers(x):
    if isinstance(x, (torch.Tensor, fl.Tensor)):
        return x.detach().numpy()
    if isinstance(x, dict):
        return {k: numbers(v) for k, v in x.items()}
    return [numbers(v) for v in x] if isinstance(x, (list, tuple)) else x


def same(ours, theirs, tolerance=1e-5):
    if isinstance(theirs, dict):
        assert list(ours) == list(theirs)
        ours, theirs = list(ours.values()), list(theirs.values())
    if isinstance(theirs, list):
        assert len(ours) == len(theirs)
        for a, b in zip(ours, theirs):
            same(a, b, tolerance)
    elif isinstance(theirs, np.ndarray):
        assert ours.shape == theirs.shape and ours.dtype == theirs.dtype
        np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance)
    else:
        assert ours == theirs


def agree(build, tolerance=1e-5):
    theirs, ours = (numbers(r) for r in both(build))
    same(ours, theirs, tolerance)


def layer(t, kind):
    return {"linear": lambda: t.nn.Linear(5, 3), "square": lambda: t.nn.Linear(4, 4), "wide": lambda: t.nn.Linear(3, 5),
            "conv": lambda: t.nn.Conv2d(2, 4, 3), "transposed": lambda: t.nn.ConvTranspose2d(2, 4, 3)}[kind]()


def used(t, module):
    """A few steps of training and one evaluation: outputs, state, gradients, print."""
    shape = (2, 2, 5, 5) if hasattr(module, "kernel_size") else (2, module.in_features)
    x = t.tensor(np.linspace(-1, 1, int(np.prod(shape)), dtype=np.float32).reshape(shape))
    found = []
    optimizer = t.optim.SGD(module.parameters(), lr=0.01)
    for _ in range(2):
        optimizer.zero_grad()
        out = module(x)
        (out ** 2).sum().backward()
        found += [out, [p.grad for p in module.parameters() if p.grad is not None]]
        optimizer.step()
    module.eval()
    return [*found, module(x), dict(module.state_dict()), [n for n, _ in module.named_parameters()], repr(module)]


@pytest.mark.parametrize("kind", ["linear", "square", "wide", "conv", "transposed"])
@pytest.mark.parametrize("make", [
    lambda u, m: u.parametrizations.weight_norm(m), lambda u, m: u.parametrizations.weight_norm(m, dim=None),
    lambda u, m: u.parametrizations.spectral_norm(m),
    lambda u, m: u.parametrizations.spectral_norm(m, n_power_iterations=3, dim=1),
    lambda u, m: u.weight_norm(m), lambda u, m: u.weight_norm(m, dim=None), lambda u, m: u.weight_norm(m, "bias"),
    lambda u, m: u.spectral_norm(m), lambda u, m: u.spectral_norm(m, n_power_iterations=2),
])
def test_norms_of_weights(kind, make):
    agree(lambda t: used(t, make(t.nn.utils, layer(t, kind))), 1e-4)


@pytest.mark.parametrize("kind", ["linear", "square", "wide"])
@pytest.mark.parametrize("options", [dict(), dict(orthogonal_map="cayley"), dict(orthogonal_map="householder"),
                                     dict(orthogonal_map="householder", use_trivialization=False),
                                     dict(orthogonal_map="matrix_exp", use_trivialization=False)])
def test_orthogonal(kind, options):
    agree(lambda t: used(t, t.nn.utils.parametrizations.orthogonal(layer(t, kind), **options)), 1e-4)


@pytest.mark.parametrize("apply, remove", [
    (lambda t, m: t.nn.utils.weight_norm(m), lambda t, m: t.nn.utils.remove_weight_norm(m)),
    (lambda t, m: t.nn.utils.spectral_norm(m), lambda t, m: t.nn.utils.remove_spectral_norm(m)),
    (lambda t, m: t.nn.utils.parametrizations.weight_norm(m),
     lambda t, m: t.nn.utils.parametrize.remove_parametrizations(m, "weight")),
    (lambda t, m: t.nn.utils.parametrizations.spectral_norm(m),
     lambda t, m: t.nn.utils.parametrize.remove_parametrizations(m, "weight", leave_parametrized=False)),
    (lambda t, m: t.nn.utils.prune.l1_unstructured(m, "weight", 0.3), lambda t, m: t.nn.utils.prune.remove(m, "weight")),
])
def test_what_is_removed_leaves_an_ordinary_module(apply, remove):
    def build(t):
        module = apply(t, layer(t, "linear"))
        module(t.ones(1, 5))
        again = remove(t, module)
        return [again is module, sorted(module.state_dict()), type(module).__name__, *used(t, module)]
    agree(build)


def parametrization(t, kind):
    class Symmetric(t.nn.Module):
        def forward(self, x):
            return x.triu() + x.triu(1).T

        def right_inverse(self, x):
            return x.triu()

    class Skew(t.nn.Module):
        def forward(self, x):
            return x - x.T

    class Sum(t.nn.Module):
        def forward(self, x, y):
            return x + 2 * y

        def right_inverse(self, x):
            return x / 2, x / 4

    class Wider(t.nn.Module):
        def forward(self, x):
            return x.double()

    return locals()[kind]()


@pytest.mark.parametrize("kinds", [["Symmetric"], ["Skew"], ["Sum"], ["Symmetric", "Skew"], ["Sum", "Symmetric"]])
def test_parametrizations(kinds):
    def build(t):
        p = t.nn.utils.parametrize
        module = layer(t, "square")
        for kind in kinds:
            p.register_parametrization(module, "weight", parametrization(t, kind))
        found = [p.is_parametrized(module), p.is_parametrized(module, "bias"), type(module).__name__,
                 p.type_before_parametrizations(module).__name__]
        if kinds in (["Symmetric"], ["Sum"]):
            module.weight = t.ones(4, 4) + t.eye(4)
        with p.cached():
            found.append(module.weight is module.weight)
        found.append(module.weight is module.weight)
        twin = copy.deepcopy(module)
        found += [twin.weight, type(twin).__name__]
        other = p.transfer_parametrizations_and_params(module, layer(t, "square"))
        return [*found, *used(t, module), dict(other.state_dict())]
    agree(build)


@pytest.mark.parametrize("case", [
    lambda t, p, m: p.register_parametrization(m, "nothing", parametrization(t, "Skew")),
    lambda t, p, m: p.register_parametrization(m, "weight", parametrization(t, "Wider")),
    lambda t, p, m: p.remove_parametrizations(m, "weight"),
    lambda t, p, m: p.ParametrizationList([], m.weight),
    lambda t, p, m: setattr(p.register_parametrization(m, "weight", parametrization(t, "Skew")), "weight", t.ones(4, 4)),
    lambda t, p, m: p.register_parametrization(p.register_parametrization(m, "weight", parametrization(t, "Skew")), "weight",
                                               parametrization(t, "Wider")),
    lambda t, p, m: __import__("pickle").dumps(p.register_parametrization(m, "weight", parametrization(t, "Skew"))),
    lambda t, p, m: t.nn.utils.weight_norm(t.nn.utils.weight_norm(m)), lambda t, p, m: t.nn.utils.remove_weight_norm(m),
    lambda t, p, m: t.nn.utils.spectral_norm(t.nn.utils.spectral_norm(m)), lambda t, p, m: t.nn.utils.remove_spectral_norm(m),
    lambda t, p, m: t.nn.utils.spectral_norm(m, n_power_iterations=0),
    lambda t, p, m: t.nn.utils.parametrizations.orthogonal(m, "bias"),
    lambda t, p, m: t.nn.utils.parametrizations.orthogonal(m, orthogonal_map="none"),
    lambda t, p, m: t.nn.utils.parametrizations.spectral_norm(m, dim=2),
    lambda t, p, m: t.nn.utils.prune.remove(m, "weight"), lambda t, p, m: t.nn.utils.prune.l1_unstructured(m, "weight", 1.5),
    lambda t, p, m: t.nn.utils.prune.l1_unstructured(m, "weight", 17),
    lambda t, p, m: t.nn.utils.prune.ln_structured(m, "bias", 1, 2, 0),
    lambda t, p, m: t.nn.utils.prune.random_structured(m, "weight", 1, 2),
    lambda t, p, m: t.nn.utils.prune.l1_unstructured(m, "weight", "a"),
    lambda t, p, m: t.nn.utils.skip_init(int), lambda t, p, m: t.nn.utils.fuse_linear_bn_eval(m, t.nn.BatchNorm1d(4)),
])
def test_errors(case):
    kinds = []
    for t in (torch, fl):
        with pytest.raises(Exception) as caught:
            case(t, t.nn.utils.parametrize, layer(t, "square"))
        kinds.append(caught.type.__name__)
    assert kinds[0] == kinds[1]


@pytest.mark.parametrize("make", [
    lambda p, m: p.identity(m, "weight"), lambda p, m: p.random_unstructured(m, "weight", 0.5),
    lambda p, m: p.l1_unstructured(m, "weight", 7), lambda p, m: p.random_structured(m, "weight", 2, 0),
    lambda p, m: p.ln_structured(m, "weight", 0.5, 2, 1), lambda p, m: p.ln_structured(m, "weight", 1, float("inf"), -1),
    lambda p, m: p.l1_unstructured(p.random_unstructured(m, "weight", 4), "weight", 0.5),
    lambda p, m: p.ln_structured(p.l1_unstructured(m, "weight", 4), "weight", 1, 1, 0),
    lambda p, m: p.random_structured(p.ln_structured(m, "weight", 1, 1, 0), "weight", 1, 0),
    lambda p, m: p.l1_unstructured(p.random_unstructured(m, "bias", 1), "weight", 4),
])
@pytest.mark.parametrize("kind", ["linear", "conv"])
def test_pruning(make, kind):
    def build(t):
        module = make(t.nn.utils.prune, layer(t, kind))
        return [t.nn.utils.prune.is_pruned(module), sorted(dict(module.named_buffers())), module.weight, *used(t, module)]
    agree(build)


def test_pruning_of_several_parameters():
    def build(t):
        model = t.nn.Sequential(layer(t, "linear"), t.nn.Linear(3, 6))
        pairs = [(model[0], "weight"), (model[1], "weight"), (model[1], "bias")]
        p = t.nn.utils.prune
        p.global_unstructured(pairs, p.L1Unstructured, amount=0.4)
        p.global_unstructured(pairs[:2], p.L1Unstructured, importance_scores={pairs[0]: t.ones(3, 5)}, amount=6)
        p.custom_from_mask(model[0], "bias", t.tensor([1, 0, 1]))
        return [dict(model.state_dict()), p.L1Unstructured(2).prune(t.arange(4.0))]
    agree(build)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("affine", [False, True])
def test_fusion(transposed, affine):
    def build(t):
        conv = layer(t, "transposed" if transposed else "conv")
        norm = t.nn.BatchNorm2d(4, affine=affine)
        norm(t.randn(3, 4, 2, 2))
        fused = t.nn.utils.fuse_conv_bn_eval(conv.eval(), norm.eval(), transposed)
        linear, norm1 = layer(t, "linear").eval(), t.nn.BatchNorm1d(3)
        norm1(t.randn(4, 3))
        found = t.nn.utils.fuse_linear_bn_eval(linear, norm1.eval())
        x = t.ones(1, 2, 5, 5)
        return [dict(fused.state_dict()), fused(x), norm(conv(x)), dict(found.state_dict())]
    agree(build)


@pytest.mark.parametrize("norm", [1, 2, 3.5, float("inf"), 0.5])
def test_clipping(norm):
    def build(t):
        u = t.nn.utils
        params = [t.ones(3).requires_grad_(), t.ones(2, 2).requires_grad_(), t.ones(1).requires_grad_()]
        for p in params[:2]:
            p.grad = t.arange(p.numel()).reshape(p.shape).float() - 1.5
        found = [u.get_total_norm([p.grad for p in params[:2]], norm), u.clip_grad_norm_(params, 0.7, norm)]
        found += [p.grad for p in params[:2]]
        u.clip_grad_value_(params, 0.1)
        u.clip_grads_with_norm_(params, 0.01, t.tensor(3.0))
        return [*found, *[p.grad for p in params[:2]], u.clip_grad_norm_(params[2], 1.0), u.clip_grad_norm_(iter([]), 1.0)]
    agree(build)


def test_vectors_of_parameters():
    def build(t):
        model = layer(t, "linear")
        vector = t.nn.utils.parameters_to_vector(model.parameters())
        t.nn.utils.vector_to_parameters(vector * 2, model.parameters())
        return [vector, dict(model.state_dict()), vector.requires_grad]
    agree(build)


def test_checkpoints_of_the_old_hooks_load():
    def build(t):
        old = t.nn.utils.weight_norm(layer(t, "linear"))
        new = t.nn.utils.parametrizations.weight_norm(layer(t, "linear"))
        new.load_state_dict(old.state_dict())
        return [dict(new.state_dict()), new(t.ones(1, 5))]
    agree(build)


def test_functional_call_under_its_old_name():
    def build(t):
        model = layer(t, "linear")
        stateless = __import__(f"{t.__name__}.nn.utils.stateless", fromlist=["functional_call"])
        return stateless.functional_call(model, {"weight": t.ones(3, 5)}, t.ones(2, 5))
    agree(build)


def test_packed_sequences():
    def build(t):
        r = t.nn.utils.rnn
        lengths = t.tensor([2, 4, 1])
        x = t.arange(24.0).reshape(3, 4, 2)
        packed = r.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        found = [list(packed), *r.pad_packed_sequence(packed, batch_first=True, padding_value=-1.0, total_length=5)]
        parts = [t.arange(3.0), t.arange(1.0), t.arange(2.0)]
        found += [r.pad_sequence(parts, padding_side="left"), *r.unpack_sequence(r.pack_sequence(parts, enforce_sorted=False))]
        found += r.unpad_sequence(r.pad_sequence(parts), t.tensor([3, 1, 2]))
        packed = packed.double()
        return [*found, packed.data, r.invert_permutation(t.tensor([2, 0, 1])), repr(type(packed).__name__)]
    agree(build)
