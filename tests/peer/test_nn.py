"""Modules beside PyTorch's: what they print, the keys of their state, their values, gradients and buffers."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import flambeau
from flambeau import nn as fnn

pytestmark = pytest.mark.peer


def both(build: Callable[[Any], Any]) -> tuple[Any, Any]:
    """The module of either library, with PyTorch's parameters and buffers in both."""
    mine, theirs = build(flambeau), build(torch)
    share(mine, theirs)
    return mine, theirs


def share(mine: Any, theirs: Any) -> None:
    """Copy PyTorch's state over; the keys must be the same."""
    state = theirs.state_dict()
    assert list(mine.state_dict()) == list(state)
    for (name, t), (_, m) in zip(state.items(), mine.state_dict().items()):
        assert tuple(t.shape) == tuple(m.shape) and str(t.dtype) == str(m.dtype), name
    result = mine.load_state_dict({k: flambeau.tensor(v.numpy().copy()) for k, v in state.items()})
    assert repr(result) == "<All keys matched successfully>"


def leaves(x: Any) -> list[Any]:
    """The tensors of a result, in order."""
    if isinstance(x, (tuple, list)):
        return [t for part in x for t in leaves(part)]
    return [] if x is None else [x]


def compare(
    mine: Any, theirs: Any, inputs: list[np.ndarray], call: Callable[[Any, Any, list], Any], tolerance: float = 1e-4
) -> None:
    """Values, dtypes, gradients of inputs and parameters, and buffers after one call of ``call(library, module, inputs)``."""
    xs = [flambeau.tensor(a.copy()) for a in inputs]
    ys = [torch.tensor(a.copy()) for a in inputs]
    for x, y in zip(xs, ys):
        if y.is_floating_point():
            x.requires_grad_()
            y.requires_grad_()
    got, want = leaves(call(flambeau, mine, xs)), leaves(call(torch, theirs, ys))
    assert len(got) == len(want)
    total, expected = 0, 0
    for a, b in zip(got, want):
        assert str(a.dtype) == str(b.dtype) and tuple(a.shape) == tuple(b.shape)
        np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=tolerance, atol=tolerance)
        assert a.requires_grad == b.requires_grad
        if b.requires_grad:
            seed = np.random.default_rng(7).standard_normal(b.shape).astype(str(b.dtype).removeprefix("torch."))
            total, expected = total + (a * flambeau.tensor(seed)).sum(), expected + (b * torch.tensor(seed)).sum()
    if len(leaves(got)) and not isinstance(expected, int):
        total.backward()
        expected.backward()
    params = zip(mine.named_parameters(), theirs.named_parameters()) if isinstance(theirs, torch.nn.Module) else ()
    pairs = [("input", x, y) for x, y in zip(xs, ys)] + [(n, a, b) for (n, a), (_, b) in params]
    for name, a, b in pairs:
        assert (a.grad is None) == (b.grad is None), name
        if b.grad is not None:
            np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), rtol=10 * tolerance, atol=10 * tolerance, err_msg=name)
    if isinstance(theirs, torch.nn.Module):
        for (name, a), (_, b) in zip(mine.named_buffers(), theirs.named_buffers()):
            np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=tolerance, atol=tolerance, err_msg=name)


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape) + len(shape)).standard_normal(shape).astype(np.float32)


def unit(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape) + 1).uniform(0.05, 0.95, shape).astype(np.float32)


def whole(high: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape) + 2).integers(0, high, shape)


MODULES: list[tuple[str, list[np.ndarray]]] = [
    ("Linear(4, 5)", [normal(3, 4)]),
    ("Linear(4, 5, bias=False)", [normal(2, 3, 4)]),
    ("Bilinear(4, 5, 2)", [normal(3, 4), normal(3, 5)]),
    ("Identity()", [normal(3)]),
    ("Conv1d(3, 4, 3)", [normal(2, 3, 8)]),
    ("Conv1d(4, 4, 3, padding='same', groups=2)", [normal(2, 4, 8)]),
    ("Conv2d(3, 4, 3, stride=2, padding=1)", [normal(2, 3, 7, 8)]),
    ("Conv2d(4, 6, (3, 2), dilation=(2, 1), groups=2, bias=False)", [normal(2, 4, 8, 7)]),
    ("Conv2d(3, 4, 3, padding=1, padding_mode='reflect')", [normal(2, 3, 6, 6)]),
    ("Conv2d(3, 4, 3, padding='same', padding_mode='circular')", [normal(2, 3, 6, 6)]),
    ("Conv2d(3, 4, 3, padding=(1, 2), padding_mode='replicate')", [normal(3, 6, 6)]),
    ("Conv3d(2, 3, 2, padding=1)", [normal(1, 2, 4, 4, 4)]),
    ("ConvTranspose1d(3, 4, 3, stride=2)", [normal(2, 3, 5)]),
    ("ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2)", [normal(2, 4, 5, 5)]),
    ("ConvTranspose3d(2, 3, 2, stride=2)", [normal(1, 2, 3, 3, 3)]),
    ("MaxPool1d(2)", [normal(2, 3, 8)]),
    ("MaxPool2d(3, stride=2, padding=1, ceil_mode=True)", [normal(2, 3, 8, 7)]),
    ("MaxPool2d(2, dilation=2, return_indices=True)", [normal(2, 3, 8, 7)]),
    ("MaxPool3d(2)", [normal(1, 2, 4, 4, 4)]),
    ("AvgPool1d(3, stride=2, padding=1)", [normal(2, 3, 8)]),
    ("AvgPool2d(3, stride=2, padding=1, ceil_mode=True)", [normal(2, 3, 8, 8)]),
    ("AvgPool2d(3, stride=2, padding=1, ceil_mode=True, count_include_pad=False)", [normal(2, 3, 8, 8)]),
    ("AvgPool2d(2, divisor_override=3)", [normal(2, 3, 8, 8)]),
    ("AvgPool3d(2)", [normal(1, 2, 4, 4, 4)]),
    ("LPPool2d(2, 3, stride=2)", [unit(2, 3, 8, 8)]),
    ("AdaptiveAvgPool1d(3)", [normal(2, 3, 8)]),
    ("AdaptiveAvgPool2d((3, None))", [normal(2, 3, 8, 7)]),
    ("AdaptiveAvgPool3d(2)", [normal(1, 2, 4, 5, 6)]),
    ("AdaptiveMaxPool2d((3, 2), return_indices=True)", [normal(2, 3, 8, 7)]),
    ("BatchNorm1d(4)", [normal(6, 4)]),
    ("BatchNorm1d(4, momentum=None)", [normal(6, 4, 3)]),
    ("BatchNorm2d(3, eps=1e-3, affine=False)", [normal(4, 3, 5, 5)]),
    ("BatchNorm2d(3, track_running_stats=False)", [normal(4, 3, 5, 5)]),
    ("BatchNorm3d(2)", [normal(2, 2, 3, 3, 3)]),
    ("BatchNorm2d(3).eval()", [normal(4, 3, 5, 5)]),
    ("InstanceNorm1d(3)", [normal(2, 3, 5)]),
    ("InstanceNorm2d(3, affine=True, track_running_stats=True)", [normal(2, 3, 5, 4)]),
    ("LayerNorm(4)", [normal(2, 3, 4)]),
    ("LayerNorm((3, 4), bias=False)", [normal(2, 3, 4)]),
    ("LayerNorm(4, elementwise_affine=False)", [normal(2, 4)]),
    ("RMSNorm(4)", [normal(2, 3, 4)]),
    ("GroupNorm(2, 4)", [normal(2, 4, 3, 3)]),
    ("LocalResponseNorm(3)", [normal(2, 5, 4)]),
    ("Embedding(5, 3)", [whole(5, 2, 3)]),
    ("Embedding(5, 3, padding_idx=1)", [whole(5, 2, 3)]),
    ("Embedding(5, 3, max_norm=1.0)", [whole(5, 2, 3)]),
    ("Embedding(5, 3, scale_grad_by_freq=True)", [whole(3, 2, 3)]),
    ("EmbeddingBag(5, 3)", [whole(5, 2, 3)]),
    ("EmbeddingBag(5, 3, mode='max', padding_idx=2)", [whole(5, 2, 3)]),
    ("ReLU()", [normal(3, 4)]),
    ("ReLU6()", [normal(3, 4) * 4]),
    ("LeakyReLU(0.2)", [normal(3, 4)]),
    ("PReLU()", [normal(3, 4)]),
    ("PReLU(4)", [normal(3, 4, 2)]),
    ("RReLU().eval()", [normal(3, 4)]),
    ("ELU(2.0)", [normal(3, 4)]),
    ("CELU(2.0)", [normal(3, 4)]),
    ("SELU()", [normal(3, 4)]),
    ("GELU()", [normal(3, 4)]),
    ("GELU('tanh')", [normal(3, 4)]),
    ("SiLU()", [normal(3, 4)]),
    ("Mish()", [normal(3, 4)]),
    ("Hardtanh(-0.5, 0.5)", [normal(3, 4)]),
    ("Hardswish()", [normal(3, 4) * 3]),
    ("Hardsigmoid()", [normal(3, 4) * 3]),
    ("Hardshrink()", [normal(3, 4)]),
    ("Softshrink()", [normal(3, 4)]),
    ("Tanhshrink()", [normal(3, 4)]),
    ("Softplus(2.0, 3.0)", [normal(3, 4)]),
    ("Softsign()", [normal(3, 4)]),
    ("Threshold(0.1, 20.0)", [normal(3, 4)]),
    ("Sigmoid()", [normal(3, 4)]),
    ("Tanh()", [normal(3, 4)]),
    ("LogSigmoid()", [normal(3, 4)]),
    ("GLU()", [normal(3, 4)]),
    ("Softmax(dim=1)", [normal(3, 4)]),
    ("Softmin(dim=1)", [normal(3, 4)]),
    ("LogSoftmax(dim=1)", [normal(3, 4)]),
    ("Softmax2d()", [normal(1, 3, 2, 2)]),
    ("Dropout(0.3).eval()", [normal(3, 4)]),
    ("Dropout2d().eval()", [normal(2, 3, 4, 4)]),
    ("AlphaDropout().eval()", [normal(3, 4)]),
    ("Flatten()", [normal(2, 3, 4)]),
    ("Unflatten(1, (2, 3))", [normal(2, 6)]),
    ("ConstantPad1d(2, 3.5)", [normal(2, 3, 4)]),
    ("ZeroPad2d((1, 2, 0, 1))", [normal(2, 3, 4, 4)]),
    ("ReflectionPad2d(1)", [normal(2, 3, 4, 4)]),
    ("ReplicationPad2d((1, 2, 0, 1))", [normal(2, 3, 4, 4)]),
    ("CircularPad1d(2)", [normal(2, 3, 4)]),
    ("ReplicationPad3d(1)", [normal(1, 2, 3, 3, 3)]),
    ("PixelShuffle(2)", [normal(1, 8, 3, 3)]),
    ("PixelUnshuffle(2)", [normal(1, 2, 4, 4)]),
    ("ChannelShuffle(2)", [normal(1, 4, 2, 2)]),
    ("Upsample(scale_factor=2)", [normal(1, 2, 3, 3)]),
    ("Upsample(size=(5, 4), mode='bilinear')", [normal(1, 2, 3, 3)]),
    ("Upsample(scale_factor=1.7, mode='bilinear', align_corners=True)", [normal(1, 2, 3, 5)]),
    ("Upsample(scale_factor=1.5, mode='bicubic')", [normal(1, 2, 4, 4)]),
    ("Upsample(size=7, mode='linear')", [normal(1, 2, 4)]),
    ("Upsample(size=(3, 5, 2), mode='trilinear')", [normal(1, 2, 4, 4, 3)]),
    ("UpsamplingBilinear2d(scale_factor=2)", [normal(1, 2, 3, 3)]),
    ("Upsample(size=5, mode='nearest-exact')", [normal(1, 2, 3)]),
    ("Upsample(size=(3, 2), mode='area')", [normal(1, 2, 7, 5)]),
    ("Unfold(3, padding=1, stride=2)", [normal(2, 3, 6, 6)]),
    ("Fold((4, 4), 2)", [normal(2, 12, 9)]),
    ("CosineSimilarity()", [normal(3, 4), normal(3, 4) + 1]),
    ("PairwiseDistance()", [normal(3, 4), normal(3, 4) + 1]),
    ("MSELoss()", [normal(3, 4), unit(3, 4)]),
    ("L1Loss(reduction='sum')", [normal(3, 4), unit(3, 4)]),
    ("SmoothL1Loss(beta=0.5)", [normal(3, 4), unit(3, 4)]),
    ("HuberLoss(delta=0.5)", [normal(3, 4), unit(3, 4)]),
    ("CrossEntropyLoss()", [normal(3, 4), whole(4, 3)]),
    ("CrossEntropyLoss(label_smoothing=0.1)", [normal(2, 4, 3), whole(4, 2, 3)]),
    ("CrossEntropyLoss(ignore_index=1, reduction='none')", [normal(3, 4), whole(4, 3)]),
    ("CrossEntropyLoss()", [normal(3, 4), unit(3, 4)]),
    ("NLLLoss()", [normal(3, 4), whole(4, 3)]),
    ("BCELoss()", [unit(3, 4), unit(3, 4)]),
    ("BCEWithLogitsLoss()", [normal(3, 4), unit(3, 4)]),
    ("KLDivLoss(reduction='batchmean')", [normal(3, 4), unit(3, 4)]),
    ("PoissonNLLLoss()", [normal(3, 4), unit(3, 4)]),
    ("GaussianNLLLoss()", [normal(3, 4), normal(3, 4) + 1, unit(3, 4)]),
    ("SoftMarginLoss()", [normal(3, 4), np.sign(normal(3, 4) + 0.1).astype(np.int64)]),
    ("MultiMarginLoss()", [normal(3, 4), whole(4, 3)]),
    ("MultiLabelMarginLoss()", [normal(2, 4), np.array([[1, 3, -1, 2], [0, -1, 2, 1]])]),
    ("MultiLabelSoftMarginLoss()", [normal(3, 4), whole(2, 3, 4)]),
    ("HingeEmbeddingLoss()", [normal(5), np.array([1, -1, 1, -1, 1])]),
    ("CosineEmbeddingLoss(margin=0.1)", [normal(3, 4), normal(3, 4) + 1, np.array([1, -1, 1])]),
    ("MarginRankingLoss(0.1)", [normal(3), unit(3), np.array([1, -1, 1])]),
    ("TripletMarginLoss(swap=True)", [normal(3, 4), normal(3, 4) + 0.1, unit(3, 4)]),
    ("TripletMarginWithDistanceLoss()", [normal(3, 4), normal(3, 4) + 0.1, unit(3, 4)]),
]


@pytest.mark.parametrize("text,inputs", MODULES, ids=[f"{i}-{t}" for i, (t, _) in enumerate(MODULES)])
@pytest.mark.filterwarnings("ignore")
def test_module(text: str, inputs: list[np.ndarray]) -> None:
    mine, theirs = both(lambda lib: eval(f"nn.{text}", {"nn": lib.nn}))
    assert repr(mine) == repr(theirs)
    compare(mine, theirs, inputs, lambda lib, module, xs: module(*xs))


RECURRENT = [
    ("RNN(4, 5)", 3),
    ("RNN(4, 5, nonlinearity='relu', bias=False)", 3),
    ("GRU(4, 5, num_layers=2, bidirectional=True)", 3),
    ("LSTM(4, 5)", 3),
    ("LSTM(4, 5, num_layers=2, batch_first=True, bidirectional=True)", 3),
    ("LSTM(4, 5, proj_size=3)", 3),
    ("LSTM(4, 5, num_layers=2, proj_size=2, bidirectional=True)", 3),
    ("GRU(4, 5)", 2),
    ("LSTM(4, 5, num_layers=2, dropout=0.5).eval()", 3),
]


@pytest.mark.parametrize("text,ndim", RECURRENT)
def test_recurrent(text: str, ndim: int) -> None:
    mine, theirs = both(lambda lib: eval(f"nn.{text}", {"nn": lib.nn}))
    assert repr(mine) == repr(theirs)
    compare(mine, theirs, [normal(*(6, 3, 4)[3 - ndim :])], lambda lib, module, xs: module(xs[0]))


def test_recurrent_with_given_states() -> None:
    mine, theirs = both(lambda lib: lib.nn.LSTM(4, 5, num_layers=2))
    compare(mine, theirs, [normal(6, 3, 4), normal(2, 3, 5), unit(2, 3, 5)], lambda lib, m, xs: m(xs[0], (xs[1], xs[2])))


@pytest.mark.parametrize(
    "text", ["RNNCell(4, 5)", "LSTMCell(4, 5)", "GRUCell(4, 5, bias=False)", "RNNCell(4, 5, nonlinearity='relu')"]
)
def test_cell(text: str) -> None:
    mine, theirs = both(lambda lib: eval(f"nn.{text}", {"nn": lib.nn}))
    assert repr(mine) == repr(theirs)
    compare(mine, theirs, [normal(3, 4)], lambda lib, module, xs: module(xs[0]))


@pytest.mark.parametrize("text", ["LSTM(4, 5, bidirectional=True)", "GRU(4, 5, num_layers=2)"])
@pytest.mark.parametrize("lengths", [[6, 4, 1], [2, 6, 3]])
def test_packed(text: str, lengths: list[int]) -> None:
    mine, theirs = both(lambda lib: eval(f"nn.{text}", {"nn": lib.nn}))

    def call(lib: Any, module: Any, xs: list) -> Any:
        rnn = lib.nn.utils.rnn
        packed = rnn.pack_padded_sequence(xs[0], lib.tensor(lengths), enforce_sorted=lengths == sorted(lengths, reverse=True))
        out, state = module(packed)
        return [rnn.pad_packed_sequence(out, total_length=7), state, packed.batch_sizes]

    compare(mine, theirs, [normal(6, 3, 4)], call)


ATTENTION: list[tuple[str, dict[str, Any]]] = [
    ("8, 2", {}),
    ("8, 2, batch_first=True", {}),
    ("8, 2, bias=False", {"need_weights": False}),
    ("8, 2, add_bias_kv=True, add_zero_attn=True", {}),
    ("8, 2, kdim=3, vdim=5", {"average_attn_weights": False}),
    ("8, 2", {"key_padding_mask": [[False, True, False, False]] * 3}),
    ("8, 2", {"attn_mask": [[False, True, False, False]] * 5}),
    ("8, 2", {"attn_mask": [[0.5, -1.0, 0.0, 2.0]] * 5, "need_weights": False}),
]


@pytest.mark.parametrize("text,kwargs", ATTENTION, ids=[f"{t} {list(k)}" for t, k in ATTENTION])
def test_multihead_attention(text: str, kwargs: dict[str, Any]) -> None:
    mine, theirs = both(lambda lib: eval(f"nn.MultiheadAttention({text})", {"nn": lib.nn}))
    assert repr(mine) == repr(theirs)
    widths = (3, 5) if "kdim" in text else (8, 8)
    shapes = [(5, 3, 8), (4, 3, widths[0]), (4, 3, widths[1])]
    inputs = [normal(*((b, a, c) if "batch_first" in text else (a, b, c))) for a, b, c in shapes]

    def call(lib: Any, module: Any, xs: list) -> Any:
        given = {k: lib.tensor(v) if isinstance(v, list) else v for k, v in kwargs.items()}
        return module(*xs, **given)

    compare(mine, theirs, inputs, call)


def test_self_attention_unbatched() -> None:
    mine, theirs = both(lambda lib: lib.nn.MultiheadAttention(8, 2))
    compare(mine, theirs, [normal(5, 8)], lambda lib, m, xs: m(xs[0], xs[0], xs[0]))


@pytest.mark.parametrize(
    "text", ["8, 2, 16, dropout=0.0", "8, 2, 16, dropout=0.0, norm_first=True, activation='gelu', batch_first=True"]
)
def test_transformer_encoder(text: str) -> None:
    mine, theirs = both(
        lambda lib: eval(
            f"nn.TransformerEncoder(nn.TransformerEncoderLayer({text}), 2, nn.LayerNorm(8), enable_nested_tensor=False)",
            {"nn": lib.nn},
        )
    )
    assert repr(mine) == repr(theirs)

    def call(lib: Any, module: Any, xs: list) -> Any:
        mask = lib.nn.Transformer.generate_square_subsequent_mask(5)
        return [module(xs[0]), module(xs[0], mask=mask, is_causal=True)]

    compare(mine, theirs, [normal(3, 5, 8) if "batch_first" in text else normal(5, 3, 8)], call)


def test_transformer() -> None:
    mine, theirs = both(lambda lib: lib.nn.Transformer(8, 2, 1, 2, 16, dropout=0.0))
    assert repr(mine) == repr(theirs)
    compare(
        mine,
        theirs,
        [normal(5, 3, 8), normal(4, 3, 8)],
        lambda lib, m, xs: m(xs[0], xs[1], tgt_mask=lib.nn.Transformer.generate_square_subsequent_mask(4)),
    )


FUNCTIONS: list[tuple[str, list[np.ndarray]]] = [
    ("F.scaled_dot_product_attention(x, y, z)", [normal(2, 2, 3, 4), normal(2, 2, 5, 4), normal(2, 2, 5, 3)]),
    ("F.scaled_dot_product_attention(x, y, z, is_causal=True, scale=0.3)", [normal(3, 4), normal(5, 4), normal(5, 4)]),
    (
        "F.scaled_dot_product_attention(x, y, z, is_causal=True)",
        [normal(2, 3, 2, 5, 4), normal(2, 3, 2, 5, 4), normal(2, 3, 2, 5, 4)],
    ),
    (
        "F.scaled_dot_product_attention(x, y, z, attn_mask=w)",
        [normal(2, 2, 3, 4), normal(2, 2, 5, 4), normal(2, 2, 5, 4), normal(3, 5)],
    ),
    (
        "F.scaled_dot_product_attention(x, y, z, attn_mask=w.detach() > 0.3)",
        [normal(2, 2, 3, 4), normal(2, 2, 5, 4), normal(2, 2, 5, 4), normal(2, 1, 3, 5)],
    ),
    ("F.scaled_dot_product_attention(x, y, z, enable_gqa=True)", [normal(2, 4, 3, 4), normal(2, 2, 5, 4), normal(2, 2, 5, 4)]),
    ("F.grid_sample(x, y, align_corners=False)", [normal(2, 3, 4, 5), normal(2, 3, 3, 2)]),
    ("F.grid_sample(x, y, align_corners=True, padding_mode='border')", [normal(2, 3, 4, 5), normal(2, 3, 3, 2)]),
    ("F.grid_sample(x, y, align_corners=False, padding_mode='reflection')", [normal(2, 3, 4, 5), normal(2, 3, 3, 2) * 2]),
    ("F.grid_sample(x, y.detach(), mode='nearest', align_corners=False)", [normal(2, 3, 4, 5), normal(2, 3, 3, 2)]),
    ("F.grid_sample(x, y, align_corners=False)", [normal(1, 2, 3, 4, 3), normal(1, 2, 2, 3, 3)]),
    ("F.affine_grid(x, (2, 3, 4, 5), align_corners=False)", [normal(2, 2, 3)]),
    ("F.affine_grid(x, (1, 3, 4, 5, 2), align_corners=True)", [normal(1, 3, 4)]),
    ("F.ctc_loss(x.log_softmax(2), T.tensor([[1, 2, 2], [3, 1, 0]]), T.tensor([6, 5]), T.tensor([3, 2]))", [normal(6, 2, 4)]),
    ("F.ctc_loss(x.log_softmax(2), T.tensor([1, 2, 2, 3, 1]), (6, 5), (3, 2), reduction='none')", [normal(6, 2, 4)]),
    ("F.ctc_loss(x.log_softmax(1), T.tensor([1, 2]), T.tensor(5), T.tensor(2), reduction='sum')", [normal(5, 4)]),
    ("F.max_unpool2d(*F.max_pool2d(x, 2, return_indices=True), 2)", [normal(2, 3, 6, 6)]),
    ("F.cross_entropy(x, T.tensor([1, 0, 3]), T.tensor([0.5, 1.0, 2.0, 3.0]), label_smoothing=0.1)", [normal(3, 4)]),
    ("F.cross_entropy(x, T.tensor([1, 0, 3]), T.tensor([0.5, 1.0, 2.0, 3.0]), ignore_index=0, reduction='none')", [normal(3, 4)]),
    ("F.cross_entropy(x, y, T.tensor([0.5, 1.0, 2.0, 3.0]), reduction='sum', label_smoothing=0.2)", [normal(3, 4), unit(3, 4)]),
    ("F.binary_cross_entropy_with_logits(x, y, pos_weight=T.tensor([1.0, 2.0, 3.0, 4.0]))", [normal(3, 4), unit(3, 4)]),
    ("F.gaussian_nll_loss(x, y, z, full=True)", [normal(3, 4), unit(3, 4), unit(3, 1)]),
    ("F.poisson_nll_loss(x, y.detach() * 4, full=True)", [normal(3, 4), unit(3, 4)]),
    (
        "F.embedding_bag(T.tensor([1, 2, 0, 3, 1]), x, T.tensor([0, 2, 4]), mode='sum', per_sample_weights=y)",
        [normal(4, 3), unit(5)],
    ),
    ("F.normalize(x, dim=0)", [normal(3, 4)]),
    ("F.normalize(x, p=1)", [normal(3, 4)]),
    ("T.cdist(x, y)", [normal(2, 3, 4), normal(2, 5, 4)]),
    ("T.cdist(x, y, p=1.0)", [normal(3, 4), normal(5, 4)]),
    ("F.pdist(x)", [normal(4, 3)]),
    ("F.one_hot(x)", [whole(5, 2, 3)]),
    ("F.one_hot(x, 7)", [whole(5, 2, 3)]),
    ("F.linear(x, y[0])", [normal(3, 4), normal(1, 4)]),
    ("T.einsum('bhqd,bhkd->bhqk', x, y)", [normal(2, 2, 3, 4), normal(2, 2, 5, 4)]),
    ("T.einsum('ii->i', x)", [normal(3, 3)]),
    ("T.einsum('...ij,...jk->...ik', x, y)", [normal(2, 3, 4), normal(4, 5)]),
    ("T.einsum('ij,j,ik->k', x, y, z)", [normal(2, 3), normal(3), normal(2, 4)]),
    ("T.einsum('abc,cd,abe->de', x, y, z)", [normal(2, 3, 4), normal(4, 5), normal(2, 3, 6)]),
    ("T.einsum('ij,kj->ik', x, y)", [normal(2, 1), normal(4, 3)]),
    ("T.einsum('bn,anm,bm->ba', x, y, z)", [normal(2, 3), normal(4, 3, 5), normal(2, 5)]),
    ("T.einsum(x, [0, 1], y, [1, 2], [2, 0])", [normal(2, 3), normal(3, 4)]),
    ("T.tensordot(x, y, dims=([1, 0], [0, 2]))", [normal(2, 3, 4), normal(3, 5, 2)]),
    ("T.kron(x, y)", [normal(2, 3), normal(4)]),
    ("T.addmm(x, y, z, beta=0.5, alpha=2)", [normal(3, 5), normal(3, 4), normal(4, 5)]),
    ("T.baddbmm(x, y, z)", [normal(2, 3, 5), normal(2, 3, 4), normal(2, 4, 5)]),
    ("T.chain_matmul(x, y, z)", [normal(3, 5), normal(5, 4), normal(4, 5)]),
    ("T.addmv(x, y, z)", [normal(3), normal(3, 4), normal(4)]),
    ("T.addr(x, y, z)", [normal(3, 4), normal(3), normal(4)]),
    ("T.inner(x, y)", [normal(2, 4), normal(3, 4)]),
    ("T.dot(x, y)", [normal(4), unit(4)]),
    ("x @ y", [normal(4), normal(2, 4, 3)]),
    ("x @ y", [normal(2, 1, 3, 4), normal(5, 4, 2)]),
    ("x @ y", [normal(2, 3, 4), normal(4)]),
]


@pytest.mark.parametrize("text,inputs", FUNCTIONS, ids=[f"{i}-{t}" for i, (t, _) in enumerate(FUNCTIONS)])
@pytest.mark.filterwarnings("ignore")
def test_function(text: str, inputs: list[np.ndarray]) -> None:
    def call(lib: Any, _: Any, xs: list) -> Any:
        return eval(text, {"F": lib.nn.functional, "T": lib, **dict(zip("xyzw", xs))})

    compare(None, None, inputs, call)


ERRORS = [
    "F.linear(T.ones(2, 3), T.ones(4, 5))",
    "T.ones(2, 3) @ T.ones(4, 5)",
    "T.mm(T.ones(2, 3), T.ones(4, 5))",
    "T.bmm(T.ones(2, 3, 4), T.ones(2, 5, 4))",
    "T.mm(T.ones(2), T.ones(4, 5))",
    "F.conv2d(T.ones(1, 3, 4, 4), T.ones(2, 4, 3, 3))",
    "F.conv2d(T.ones(1, 3, 2, 2), T.ones(2, 3, 3, 3))",
    "F.conv2d(T.ones(1, 3, 4, 4), T.ones(2, 3, 3, 3).double())",
    "F.conv2d(T.ones(4, 4), T.ones(2, 3, 3, 3))",
    "F.conv2d(T.ones(1, 3, 4, 4), T.ones(2, 3, 3, 3), T.ones(3))",
    "F.conv2d(T.ones(1, 3, 4, 4), T.ones(2, 3, 3, 3), stride=0)",
    "F.max_pool2d(T.ones(1, 1, 2, 2), 3)",
    "F.max_pool2d(T.ones(1, 1, 8, 8), 2, padding=2)",
    "F.avg_pool2d(T.ones(1, 1, 2, 2), 3)",
    "F.layer_norm(T.ones(2, 3), (4,))",
    "F.batch_norm(T.ones(2, 3), T.ones(4), T.ones(4))",
    "F.batch_norm(T.ones(1, 3), None, None, training=True)",
    "F.embedding(T.tensor([5]), T.ones(5, 3))",
    "F.embedding(T.ones(2), T.ones(5, 3))",
    "F.cross_entropy(T.ones(3, 4), T.tensor([1, 2]))",
    "F.cross_entropy(T.ones(3, 4), T.tensor([1, 2, 4]))",
    "F.nll_loss(T.ones(3, 4), T.tensor([1, 2, -1]))",
    "F.dropout(T.ones(2), p=1.5)",
    "F.glu(T.ones(2, 3))",
    "F.gelu(T.ones(2), approximate='x')",
    "F.binary_cross_entropy(T.ones(3), T.ones(4))",
    "nn.Conv2d(3, 4, 3, groups=2)",
    "nn.BatchNorm2d(3)(T.ones(2, 3))",
    "nn.Linear(2, 3)(T.ones(4))",
    "nn.LSTM(4, 5)(T.ones(2, 3, 3))",
    "nn.LSTM(4, 5)(T.ones(1, 2, 3, 4))",
    "nn.GRU(4, 5)(T.ones(6, 3, 4), T.ones(1, 2, 5))",
    "nn.MultiheadAttention(5, 2)",
    "nn.Embedding(3, 2, padding_idx=4)",
    "nn.Linear(2, 3).load_state_dict({'weight': T.ones(3, 2), 'other': T.ones(1)})",
    "nn.Linear(2, 3).load_state_dict({'weight': T.ones(2, 2), 'bias': T.ones(3)})",
    "nn.Sequential(nn.Linear(2, 3)).load_state_dict({'0.weight': T.ones(3, 2)})",
    "nn.Sequential(nn.Linear(2, 3))[1]",
    "setattr(nn.Linear(2, 3), 'weight', T.ones(3, 2))",
    "nn.Linear(2, 3).register_buffer('weight', T.ones(1))",
    "nn.Linear(2, 3).register_parameter('a.b', None)",
    "nn.Module().foo",
    "nn.Module()(1)",
    "nn.Module().train(1)",
    "nn.Sequential(3)",
    "nn.Linear(2, 3).get_submodule('x')",
    "nn.ModuleList([1])",
    "nn.Linear(2, 3).to(T.int64)",
    "T.einsum('ij,jk', T.ones(2, 3), T.ones(4, 5))",
    "T.einsum('ij', T.ones(2))",
    "T.tensordot(T.ones(2, 3), T.ones(2, 3), 1)",
    "F.interpolate(T.ones(1, 1, 2), size=4, mode='bilinear')",
    "F.scaled_dot_product_attention(T.ones(2, 3), T.ones(2, 3).double(), T.ones(2, 3))",
]


@pytest.mark.parametrize("text", ERRORS)
def test_error(text: str) -> None:
    raised = []
    for lib in (flambeau, torch):
        with pytest.raises(Exception) as info:
            eval(text, {"F": lib.nn.functional, "T": lib, "nn": lib.nn})
        raised.append(info.value)
    mine, theirs = raised
    assert type(mine).__name__ == type(theirs).__name__, (mine, theirs)


def test_initial_values_for_a_seed() -> None:
    for text in ("Linear(4, 5)", "Conv2d(3, 4, 3)", "LSTM(4, 5)", "Embedding(5, 16)", "MultiheadAttention(8, 2)"):
        values = []
        for lib in (flambeau, torch):
            lib.manual_seed(3)
            values.append([p.detach().numpy() for p in eval(f"nn.{text}", {"nn": lib.nn}).parameters()])
        for mine, theirs in zip(*values):
            np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-6, err_msg=text)


INITS = [
    "uniform_(t, -1, 2)",
    "normal_(t, 1.0, 2.0)",
    "constant_(t, 3)",
    "eye_(t)",
    "xavier_uniform_(t)",
    "xavier_normal_(t, 2.0)",
    "kaiming_uniform_(t, nonlinearity='relu')",
    "kaiming_normal_(t, mode='fan_out')",
    "trunc_normal_(t, std=0.5)",
]


@pytest.mark.parametrize("text", INITS)
def test_init(text: str) -> None:
    values = []
    for lib in (flambeau, torch):
        lib.manual_seed(5)
        t = lib.empty(16, 12)
        eval(f"init.{text}", {"init": lib.nn.init, "t": t})
        values.append(t.numpy())
    np.testing.assert_allclose(*values, rtol=1e-4, atol=1e-5)


def test_dropout_mask_for_a_seed() -> None:
    values = []
    for lib in (flambeau, torch):
        lib.manual_seed(11)
        values.append(lib.nn.functional.dropout(lib.ones(64), 0.3).numpy())
    np.testing.assert_allclose(*values)


def test_deepcopy_is_independent() -> None:
    module = fnn.Sequential(fnn.Linear(2, 3), fnn.BatchNorm1d(3))
    other = copy.deepcopy(module)
    with flambeau.no_grad():
        other[0].weight.add_(1)
    assert not np.allclose(module[0].weight.detach().numpy(), other[0].weight.detach().numpy())
    assert repr(module) == repr(other) and list(module.state_dict()) == list(other.state_dict())
