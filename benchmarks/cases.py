"""The benchmark cases, each written once in PyTorch's style and built for whichever library is handed in.

A case is a function `build(torch, compile)`: `torch` is torch or flambeau, `compile` is that library's compile or the
identity. It returns `run()`, which does the work once and returns a tensor; all libraries must return the same values,
which the benchmark checks. Inputs and parameters come from NumPy's generator, so they are the same everywhere.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Run = Callable[[], Any]
Compile = Callable[[Any], Any]
DIGITS_MODEL = Path(__file__).parent.parent / "examples" / "digits" / "model.py"


def tensors(torch: Any, *shapes: tuple[int, ...], grad: bool = False) -> list[Any]:
    """f32 normal tensors, the same for every library."""
    rng = np.random.default_rng(0)
    made = [torch.from_numpy(rng.standard_normal(shape, dtype=np.float32)) for shape in shapes]
    return [tensor.requires_grad_() for tensor in made] if grad else made


def fill(torch: Any, model: Any, scale: float = 0.05) -> Any:
    """Parameters the same for every library; vectors (biases, norms) lie around one half."""
    rng = np.random.default_rng(1)
    with torch.no_grad():
        for parameter in model.parameters():
            values = rng.standard_normal(tuple(parameter.shape), dtype=np.float32) * scale
            parameter.copy_(torch.from_numpy(values + (0.5 if values.ndim == 1 else 0)))
    return model


def pointwise_cached(torch: Any, compile: Compile) -> Run:
    """sigmoid(a) * tanh(b) + a * b on 256x1024: the operands stay in the cache."""
    a, b = tensors(torch, (256, 1024), (256, 1024))
    fn = compile(lambda a, b: torch.sigmoid(a) * torch.tanh(b) + a * b)
    return lambda: fn(a, b)


def pointwise_large(torch: Any, compile: Compile) -> Run:
    """The same on 2048x2048: memory decides."""
    a, b = tensors(torch, (2048, 2048), (2048, 2048))
    fn = compile(lambda a, b: torch.sigmoid(a) * torch.tanh(b) + a * b)
    return lambda: fn(a, b)


def bias_gelu(torch: Any, compile: Compile) -> Run:
    """gelu(x + bias) on 512x3072."""
    x, bias = tensors(torch, (512, 3072), (3072,))
    fn = compile(lambda x, bias: torch.nn.functional.gelu(x + bias))
    return lambda: fn(x, bias)


def softmax(torch: Any, compile: Compile) -> Run:
    """softmax(2a + 1) over rows of 1024, 2048 rows."""
    a, = tensors(torch, (2048, 1024))
    fn = compile(lambda a: torch.softmax(2 * a + 1, dim=-1))
    return lambda: fn(a)


def layer_norm_training(torch: Any, compile: Compile) -> Run:
    """LayerNorm forward and backward on 4096x768, with the gradients of input, weight and bias."""
    x, weight, bias, g = tensors(torch, (4096, 768), (768,), (768,), (4096, 768))
    wanted = [t.requires_grad_() for t in (x, weight, bias)]
    fn = compile(lambda x, w, b: torch.nn.functional.layer_norm(x, (768,), w, b))
    return _training(lambda: fn(x, weight, bias), g, wanted)


def _training(forward: Run, g: Any, wanted: list[Any]) -> Run:
    def run() -> Any:
        for tensor in wanted:
            tensor.grad = None
        forward().backward(g)
        return wanted[0].grad
    return run


def make_mlp(torch: Any) -> Any:
    class MLP(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = torch.nn.LayerNorm(512)
            self.up = torch.nn.Linear(512, 2048)
            self.down = torch.nn.Linear(2048, 512)

        def forward(self, x: Any) -> Any:
            return x + self.down(torch.nn.functional.gelu(self.up(self.norm(x))))

    return fill(torch, MLP())


def mlp(torch: Any, compile: Compile) -> Run:
    """x + down(gelu(up(norm(x)))) on 512x512, hidden 2048, inference."""
    model = make_mlp(torch).requires_grad_(False)
    x, = tensors(torch, (512, 512))
    fn = compile(model)
    return lambda: fn(x)


def mlp_training(torch: Any, compile: Compile) -> Run:
    """The same block, forward and backward."""
    model = make_mlp(torch)
    x, g = tensors(torch, (512, 512), (512, 512))
    fn = compile(model)
    return _training(lambda: fn(x), g, list(model.parameters()))


def make_attention(torch: Any, dim: int, heads: int) -> Any:
    class Attention(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = torch.nn.LayerNorm(dim)
            self.qkv = torch.nn.Linear(dim, 3 * dim)
            self.proj = torch.nn.Linear(dim, dim)

        def forward(self, x: Any) -> Any:
            n, t, d = x.shape
            q, k, v = self.qkv(self.norm(x)).chunk(3, dim=-1)
            q, k, v = (part.reshape(n, t, heads, d // heads).transpose(1, 2) for part in (q, k, v))
            y = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            return x + self.proj(y.transpose(1, 2).reshape(n, t, d))

    return fill(torch, Attention())


def attention(torch: Any, compile: Compile) -> Run:
    """Causal self-attention with its projections, batch 4, 256 tokens, 512 wide, 8 heads, inference."""
    model = make_attention(torch, 512, 8).requires_grad_(False)
    x, = tensors(torch, (4, 256, 512))
    fn = compile(model)
    return lambda: fn(x)


def attention_training(torch: Any, compile: Compile) -> Run:
    """The same block, forward and backward."""
    model = make_attention(torch, 512, 8)
    x, g = tensors(torch, (4, 256, 512), (4, 256, 512))
    fn = compile(model)
    return _training(lambda: fn(x), g, list(model.parameters()))


def make_digits(torch: Any) -> Any:
    """The demo's Net, from its own source with the library's name in place of flambeau."""
    source = DIGITS_MODEL.read_text().replace("flambeau", torch.__name__)
    module = types.ModuleType("digits_model")
    sys.modules[module.__name__] = module   # compilers look a function's globals up by its module's name
    exec(compile(source, str(DIGITS_MODEL), "exec"), module.__dict__)
    return module.Net()


def digits_step(torch: Any, compile: Compile) -> Run:
    """One training step of examples/digits (its own source), batch 64, with AdamW."""
    model = fill(torch, make_digits(torch))
    images, = tensors(torch, (64, 1, 8, 8))
    labels = torch.from_numpy(np.arange(64) % 10)
    return _step(torch, compile, model, lambda: (images, labels))


def make_gpt(torch: Any, vocabulary: int, tokens: int, dim: int, heads: int, layers: int) -> Any:
    class Block(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = make_attention(torch, dim, heads)
            self.norm = torch.nn.LayerNorm(dim)
            self.up = torch.nn.Linear(dim, 4 * dim)
            self.down = torch.nn.Linear(4 * dim, dim)

        def forward(self, x: Any) -> Any:
            x = self.attention(x)
            return x + self.down(torch.nn.functional.gelu(self.up(self.norm(x))))

    class GPT(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.token = torch.nn.Embedding(vocabulary, dim)
            self.position = torch.nn.Embedding(tokens, dim)
            self.blocks = torch.nn.Sequential(*(Block() for _ in range(layers)))
            self.norm = torch.nn.LayerNorm(dim)
            self.head = torch.nn.Linear(dim, vocabulary, bias=False)

        def forward(self, ids: Any) -> Any:
            x = self.token(ids) + self.position(torch.arange(ids.shape[1]))
            return self.head(self.norm(self.blocks(x)))

    return fill(torch, GPT())


def gpt_step(torch: Any, compile: Compile) -> Run:
    """One AdamW training step of a 4-layer GPT, 256 wide, 8 heads, 1024 words, batch 8 x 128 (3.7 M parameters)."""
    model, inputs, targets = _gpt_batch(torch, 1024, 256, 8)
    return _step(torch, compile, model, lambda: (inputs, targets))


def small_gpt_step(torch: Any, compile: Compile) -> Run:
    """The same for 4 layers, 128 wide, 4 heads, 256 words, batch 8 x 128: less work for each op."""
    model, inputs, targets = _gpt_batch(torch, 256, 128, 4)
    return _step(torch, compile, model, lambda: (inputs, targets))


def make_resnet(torch: Any, width: int) -> Any:
    nn = torch.nn

    def conv(inside: int, outside: int, kernel: int, stride: int) -> Any:
        return nn.Sequential(nn.Conv2d(inside, outside, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(outside))

    class Block(nn.Module):
        def __init__(self, inside: int, outside: int, stride: int) -> None:
            super().__init__()
            self.first, self.second = conv(inside, outside, 3, stride), conv(outside, outside, 3, 1)
            self.short = nn.Identity() if inside == outside else conv(inside, outside, 1, stride)

        def forward(self, x: Any) -> Any:
            return torch.relu(self.second(torch.relu(self.first(x))) + self.short(x))

    class ResNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            sizes = [width, 2 * width, 4 * width, 8 * width]
            self.stem = conv(3, width, 3, 1)
            self.blocks = nn.Sequential(*(Block(inside if i == 0 else size, size, 2 if i == 0 and size > width else 1)
                                          for inside, size in zip([width, *sizes], sizes) for i in range(2)))
            self.head = nn.Linear(8 * width, 10)

        def forward(self, x: Any) -> Any:
            x = self.blocks(torch.relu(self.stem(x)))
            return self.head(nn.functional.adaptive_avg_pool2d(x, 1).flatten(1))

    return fill(torch, ResNet())


def resnet_step(torch: Any, compile: Compile) -> Run:
    """One AdamW training step of a ResNet-18, a quarter as wide (16 to 128 channels), on 32 x 32 images, batch 16."""
    model = make_resnet(torch, 16)
    images, = tensors(torch, (16, 3, 32, 32))
    labels = torch.from_numpy(np.arange(16) % 10)
    return _step(torch, compile, model, lambda: (images, labels))


def _lengths(torch: Any) -> tuple[Any, list[Any]]:
    """A GPT without gradients, and words of four lengths for it."""
    model = make_gpt(torch, 256, 160, 128, 4, 4).requires_grad_(False)
    rng = np.random.default_rng(3)
    return model, [torch.from_numpy(rng.integers(0, 256, (4, int(n)))) for n in (104, 40, 136, 72)]


def many_lengths(torch: Any, compile: Compile) -> Run:
    """A 4-layer GPT, 128 wide, on batches of 104, 40, 136 and 72 words, one after the other: one compiled function."""
    model, batches = _lengths(torch)
    fn = compile(lambda ids: model(ids))
    return lambda: sum(fn(ids).mean() for ids in batches)


def many_lengths_static(torch: Any, compile: Compile) -> Run:
    """The same with a function compiled for each length."""
    model, batches = _lengths(torch)
    fns = [compile(_of(model)) for _ in batches]
    return lambda: sum(fn(ids).mean() for fn, ids in zip(fns, batches))


def _of(model: Any) -> Any:
    """A function of its own code, as compilers know functions by their code."""
    space = {"model": model}
    exec("def forward(ids): return model(ids)", space)
    return space["forward"]


def _step(torch: Any, compile: Compile, model: Any, batch: Callable[[], tuple[Any, Any]]) -> Run:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

    def loss_of(inputs: Any, targets: Any) -> Any:
        return torch.nn.functional.cross_entropy(model(inputs).flatten(0, -2), targets.flatten())

    forward = compile(loss_of)

    def run() -> Any:
        optimizer.zero_grad()
        loss = forward(*batch())
        loss.backward()
        optimizer.step()
        return loss.detach()
    return run


def whole_step(torch: Any, compile: Compile) -> Run:
    """The step of `gpt_step` as one call: the compiled function runs backward and optimizer too (torch breaks it in parts)."""
    return _whole(torch, compile, *_gpt_batch(torch, 1024, 256, 8))


def small_whole_step(torch: Any, compile: Compile) -> Run:
    """The step of `small_gpt_step` as one call."""
    return _whole(torch, compile, *_gpt_batch(torch, 256, 128, 4))


def _gpt_batch(torch: Any, words: int, width: int, heads: int) -> tuple[Any, Any, Any]:
    model = make_gpt(torch, words, 128, width, heads, 4)
    ids = torch.from_numpy(np.random.default_rng(2).integers(0, words, (8, 129)))
    return model, ids[:, :-1].contiguous(), ids[:, 1:].contiguous()


def _whole(torch: Any, compile: Compile, model: Any, inputs: Any, targets: Any) -> Run:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

    def step(inputs: Any, targets: Any) -> Any:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(inputs).flatten(0, -2), targets.flatten())
        loss.backward()
        optimizer.step()
        return loss.detach()

    fn = compile(step)
    return lambda: fn(inputs, targets)


def call_overhead(torch: Any, compile: Compile) -> Run:
    """x + 1 on eight floats: nothing but the cost of a call."""
    x, = tensors(torch, (8,))
    fn = compile(lambda x: x + 1)
    return lambda: fn(x)


def guards_of_modules(torch: Any, compile: Compile) -> Run:
    """A model of 202 modules that computes x + 1: what it costs a call to see that all of them are as they were."""
    nn = torch.nn

    class Block(nn.Module):  # type: ignore[name-defined,misc]
        def __init__(self) -> None:
            super().__init__()
            self.first, self.drop, self.last = nn.Identity(), nn.Dropout(0.1), nn.Identity()

        def forward(self, x: Any) -> Any:
            return self.last(self.drop(self.first(x)))

    class Model(nn.Module):  # type: ignore[name-defined,misc]
        def __init__(self) -> None:
            super().__init__()
            self.blocks = nn.Sequential(*[Block() for _ in range(50)])

        def forward(self, x: Any) -> Any:
            return self.blocks(x) + 1

    x, = tensors(torch, (8,))
    fn = compile(Model().eval())
    return lambda: fn(x)


def recorded_add(torch: Any, compile: Compile) -> Run:
    """x + y on eight floats that require a gradient."""
    x, y = tensors(torch, (8,), (8,), grad=True)
    fn = compile(lambda x, y: x + y)
    return lambda: fn(x, y)


def tape_walk(torch: Any, compile: Compile) -> Run:
    """Forward and backward of 64 products and sums in a row on eight floats: nothing but the cost of the tape."""
    x, y = tensors(torch, (8,), (8,), grad=True)

    def chain(x: Any, y: Any) -> Any:
        for _ in range(32):
            x = x * y + y
        return x.sum()

    fn = compile(chain)
    return _training(lambda: fn(x, y), None, [x, y])


CASES: dict[str, Callable[[Any, Compile], Run]] = {build.__name__: build for build in (
    call_overhead, guards_of_modules, recorded_add, tape_walk, pointwise_cached, pointwise_large, bias_gelu, softmax,
    layer_norm_training, mlp, mlp_training, attention, attention_training, digits_step, resnet_step, small_gpt_step, gpt_step,
    small_whole_step, whole_step,
    many_lengths, many_lengths_static)}
