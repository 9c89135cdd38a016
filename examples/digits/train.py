"""Trains the digits model once eagerly and once compiled, from the same seed, and compares the two.

Run by `make demo`. Writes demo-output/: summary.json, loss.png and stages/ (every stage of the compile, as text).
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from model import Net
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import flambeau
import flambeau.nn.functional as F
from flambeau import Tensor, nn

BATCH = 64
EPOCHS = 12
SEED = 0
OUTPUT = Path("demo-output")


@dataclass(frozen=True)
class Data:
    """Images [N, 1, 8, 8] as f32 in 0..1 and labels [N] as i64, for training and held out."""

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor


@dataclass
class Run:
    """What one training left behind. `step_seconds` has the optimiser's part in it, too."""

    model: nn.Module
    losses: list[float]
    step_seconds: list[float]
    accuracy: float = 0.0
    compile_seconds: float = 0.0

    @property
    def steps_per_second(self) -> float:
        """From the steps after the first epoch: the first ones warm caches up and, compiled, compile."""
        steady = self.step_seconds[len(self.step_seconds) // EPOCHS:]
        return len(steady) / sum(steady)


def load_data() -> Data:
    digits = load_digits()
    images = (digits.images / 16).astype(np.float32)[:, None]
    labels = digits.target.astype(np.int64)
    split = train_test_split(images, labels, test_size=0.2, random_state=SEED, stratify=labels)
    train_images, test_images, train_labels, test_labels = map(flambeau.from_numpy, split)
    return Data(train_images, train_labels, test_images, test_labels)


def train(data: Data, *, compiled: bool) -> Run:
    flambeau.manual_seed(SEED)
    model = Net()
    optimizer = flambeau.optim.AdamW(model.parameters(), lr=3e-3)
    steps_per_epoch = len(data.train_images) // BATCH
    schedule = flambeau.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS * steps_per_epoch)

    def loss_of(images: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(model(images), labels)

    forward: Callable[[Tensor, Tensor], Tensor] = flambeau.compile(loss_of) if compiled else loss_of
    run = Run(model, [], [])
    name = "compiled" if compiled else "eager"
    shuffle = flambeau.Generator().manual_seed(SEED)
    for epoch in range(EPOCHS):
        order = flambeau.randperm(len(data.train_images), generator=shuffle)
        for step in range(steps_per_epoch):
            chosen = order[step * BATCH:(step + 1) * BATCH]
            images, labels = data.train_images[chosen], data.train_labels[chosen]
            start = time.perf_counter()
            optimizer.zero_grad()
            loss = forward(images, labels)
            loss.backward()
            optimizer.step()
            schedule.step()
            run.step_seconds.append(time.perf_counter() - start)
            run.losses.append(loss.item())
            progress(name, epoch * steps_per_epoch + step + 1, EPOCHS * steps_per_epoch, run.losses[-1])
    if compiled:   # the first step compiles forward and backward, and then runs like any other
        run.compile_seconds = run.step_seconds[0] - float(np.median(run.step_seconds[1:]))
    run.accuracy = accuracy(flambeau.compile(model) if compiled else model, data)
    return run


def accuracy(model: Callable[[Tensor], Tensor], data: Data) -> float:
    """The share of held-out images that are recognised."""
    model.eval()
    with flambeau.no_grad():
        return (model(data.test_images).argmax(1) == data.test_labels).float().mean().item()


def progress(name: str, done: int, total: int, loss: float) -> None:
    """A bar that redraws itself on a terminal, and one line per tenth elsewhere."""
    if not sys.stderr.isatty():
        if done * 10 // total > (done - 1) * 10 // total:
            print(f"{name:<9}{done:>4}/{total} steps  loss {loss:.4f}", file=sys.stderr)
        return
    filled = 30 * done // total
    end = "\n" if done == total else ""
    print(f"\r{name:<9}[{'#' * filled}{'.' * (30 - filled)}] {done:>4}/{total}  loss {loss:.4f}", end=end,
          file=sys.stderr, flush=True)


def write_stages(model: nn.Module, folder: Path) -> dict[str, int]:
    """Every stage of compiling the model for training, one numbered file each; returns graphs, breaks and kernels."""
    from flambeau.cli.dump import collect, kind_of, write
    from flambeau.cli.subject import Subject

    model.train()
    images = flambeau.randn(BATCH, 1, 8, 8)
    shutil.rmtree(folder, ignore_errors=True)
    stages = collect(Subject("Net", model, (images,)), ["cpp", "numpy"], "cpu", gradients=True)
    write(stages, folder)
    account = flambeau.compiler.explain(model)(images)
    kernels = sum(stage.text.count("with kernel(") for stage in stages if kind_of(stage) == "plan")
    return {"graphs": account.graph_count, "breaks": account.graph_break_count, "kernels": kernels}


def draw(eager: Run, compiled: Run, file: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (top, bottom) = plt.subplots(2, 1, sharex=True, figsize=(8, 6), height_ratios=(3, 1))
    top.plot(eager.losses, label=f"eager, {eager.steps_per_second:.0f} steps/s", linewidth=3, alpha=0.4)
    top.plot(compiled.losses, label=f"compiled, {compiled.steps_per_second:.0f} steps/s", linewidth=1)
    top.set(ylabel="cross entropy", yscale="log", title="Digits: the same training, eager and compiled")
    top.legend()
    # Equal losses have no logarithm: they are drawn at the bottom edge.
    difference = np.abs(np.subtract(eager.losses, compiled.losses))
    bottom.plot(np.maximum(difference, 1e-9), color="black", linewidth=1)
    bottom.axhline(1e-3, color="red", linewidth=0.5)
    bottom.set(ylabel="difference", xlabel="step", yscale="log", ylim=(1e-9, 1e-2))
    figure.tight_layout()
    figure.savefig(file, dpi=120)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=OUTPUT)
    output: Path = parser.parse_args().output
    output.mkdir(parents=True, exist_ok=True)
    data = load_data()
    eager = train(data, compiled=False)
    compiled = train(data, compiled=True)
    summary = {
        "accuracy_eager": eager.accuracy,
        "accuracy_compiled": compiled.accuracy,
        "max_loss_difference": float(np.abs(np.subtract(eager.losses, compiled.losses)).max()),
        "steps_per_s_eager": eager.steps_per_second,
        "steps_per_s_compiled": compiled.steps_per_second,
        "compile_seconds": compiled.compile_seconds,
        **write_stages(compiled.model, output / "stages"),
    }
    (output / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    draw(eager, compiled, output / "loss.png")
    width = max(map(len, summary))
    for key, value in summary.items():
        print(f"{key:<{width}}  {value:.4g}" if isinstance(value, float) else f"{key:<{width}}  {value}")
    print(f"compiled runs at {compiled.steps_per_second / eager.steps_per_second:.2f} x the eager steps/s; "
          f"see {output}/loss.png and {output}/stages/")
    return 0


if __name__ == "__main__":
    sys.exit(main())
