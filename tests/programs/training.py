"""The loop around a model: data, optimizers, schedules, checkpoints."""

from __future__ import annotations

import copy
import io
import math
import os
import pickle
import tempfile
from collections import OrderedDict

from .registry import message, program, raised


def regression(torch):
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))
    x = torch.randn(12, 3)
    return model, x, x.sum(1, keepdim=True).sin()


@program
def optimizers(torch):
    F, optim = torch.nn.functional, torch.optim
    results = []
    for make in (
        lambda p: optim.SGD(p, lr=0.1),
        lambda p: optim.SGD(p, 0.1, momentum=0.9, dampening=0.1, weight_decay=0.01),
        lambda p: optim.SGD(p, 0.1, momentum=0.9, nesterov=True, maximize=True),
        lambda p: optim.Adam(p),
        lambda p: optim.Adam(p, lr=0.01, weight_decay=0.1, amsgrad=True),
        lambda p: optim.AdamW(p, lr=0.01),
        lambda p: optim.AdamW(p, lr=0.01, betas=(0.8, 0.9), eps=1e-6, weight_decay=0.3),
        lambda p: optim.RMSprop(p),
        lambda p: optim.RMSprop(p, lr=0.01, momentum=0.5, centered=True),
    ):
        torch.manual_seed(1)
        model, x, y = regression(torch)
        optimizer = make(model.parameters())
        for _ in range(4):
            optimizer.zero_grad()
            loss = F.mse_loss(model(x), y)
            loss.backward()
            optimizer.step()
        results += [loss, model[0].bias, str(optimizer)]
    closure_model, x, y = regression(torch)
    optimizer = optim.SGD(closure_model.parameters(), lr=0.1)

    def closure():
        optimizer.zero_grad()
        loss = F.l1_loss(closure_model(x), y)
        loss.backward()
        return loss

    return [
        *results,
        optimizer.step(closure),
        sorted(optimizer.state_dict()),
        optimizer.defaults["momentum"],
        raised(lambda: optim.SGD([], lr=0.1)),
        raised(lambda: optim.Adam(closure_model.parameters(), lr=-1)),
        raised(lambda: optim.SGD([torch.ones(1, requires_grad=True) * 2], lr=0.1)),
    ]


@program
def schedules(torch):
    optim, sched = torch.optim, torch.optim.lr_scheduler
    results = []
    for make in (
        lambda o: sched.StepLR(o, step_size=2, gamma=0.5),
        lambda o: sched.MultiStepLR(o, [1, 4], 0.1),
        lambda o: sched.ExponentialLR(o, 0.9),
        lambda o: sched.CosineAnnealingLR(o, T_max=4, eta_min=0.01),
        lambda o: sched.LambdaLR(o, lambda e: 0.95**e),
        lambda o: sched.LinearLR(o, 0.3, total_iters=3),
        lambda o: sched.OneCycleLR(o, max_lr=1.0, total_steps=8),
        lambda o: sched.CosineAnnealingWarmRestarts(o, 3),
        lambda o: sched.SequentialLR(o, [sched.ConstantLR(o, 0.1, 2), sched.ExponentialLR(o, 0.5)], [2]),
        lambda o: sched.PolynomialLR(o, 5, power=2.0),
        lambda o: sched.LambdaLR(o, [lambda e: min(1.0, (e + 1) / 4), lambda e: 1.0]),
    ):
        a, b = torch.nn.Parameter(torch.ones(1)), torch.nn.Parameter(torch.ones(1))
        optimizer = optim.SGD([{"params": [a]}, {"params": [b], "lr": 0.2}], lr=0.5, momentum=0.9)
        scheduler, rates = make(optimizer), []
        for _ in range(6):
            optimizer.step()
            rates.append([g["lr"] for g in optimizer.param_groups])
            scheduler.step()
        results += [rates, scheduler.get_last_lr(), sorted(k for k in scheduler.state_dict() if not k.startswith("_"))]
    optimizer = optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0)
    plateau, rates = sched.ReduceLROnPlateau(optimizer, mode="min", factor=0.5, patience=1), []
    for metric in (1.0, 0.9, 0.95, 0.95, 0.96, 0.99, 0.5):
        plateau.step(metric)
        rates.append(optimizer.param_groups[0]["lr"])
    return [*results, rates]


@program
def checkpoint_and_resume(torch):
    def make():
        torch.manual_seed(3)
        model, x, y = regression(torch)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
        return model, x, y, optimizer, torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.5)

    def steps(parts, n):
        model, x, y, optimizer, scheduler = parts
        losses = []
        for _ in range(n):
            optimizer.zero_grad()
            loss = (model(x) - y).pow(2).mean()
            loss.backward()
            optimizer.step()
            scheduler.step()
            losses.append(loss.item())
        return losses

    straight = steps(make(), 6)
    first = make()
    begin = steps(first, 3)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "checkpoint.pt")
        torch.save(
            {
                "epoch": 3,
                "model_state_dict": first[0].state_dict(),
                "optimizer": first[3].state_dict(),
                "scheduler": first[4].state_dict(),
                "args": {"lr": 0.05, "names": ["a", "b"]},
                "rng": torch.get_rng_state(),
            },
            path,
        )
        second = make()
        saved = torch.load(path, map_location="cpu", weights_only=True)
    second[0].load_state_dict(saved["model_state_dict"])
    second[3].load_state_dict(saved["optimizer"])
    second[4].load_state_dict(saved["scheduler"])
    end = steps(second, 3)
    state = second[3].state_dict()
    buffer = io.BytesIO()
    torch.save([torch.arange(3), {"x": torch.tensor(1 + 2j)}, torch.ones(2).bool(), torch.ones(2).bfloat16()], buffer)
    buffer.seek(0)
    shared = torch.zeros(4)
    other = io.BytesIO()
    torch.save((shared[:2], shared), other)
    other.seek(0)
    part, whole = torch.load(other)
    whole[0] = 5
    return [
        straight,
        begin + end,
        saved["epoch"],
        saved["args"],
        list(state),
        state["param_groups"],
        list(state["state"][0]),
        state["state"][0]["step"],
        torch.load(buffer),
        part,
        raised(lambda: torch.load("/nonexistent/file.pt")),
    ]


@program
def state_dict_strictness(torch):
    nn = torch.nn
    model = nn.Sequential(OrderedDict(fc=nn.Linear(2, 3), norm=nn.BatchNorm1d(3)))
    state = model.state_dict()
    missing = OrderedDict(state)
    del missing["fc.bias"]
    extra = OrderedDict(state, unexpected=torch.ones(1))
    wrong = OrderedDict(state)
    wrong["fc.weight"] = torch.ones(3, 4)
    result = model.load_state_dict(OrderedDict(missing, other=torch.ones(1)), strict=False)
    return [
        list(state),
        message(lambda: model.load_state_dict(missing)),
        message(lambda: model.load_state_dict(extra)),
        message(lambda: model.load_state_dict(wrong)),
        str(result),
        result.missing_keys,
        result.unexpected_keys,
        str(model.load_state_dict(state)),
        model.fc.state_dict(prefix="p."),
        state["fc.weight"].requires_grad,
        model.state_dict(keep_vars=True)["fc.weight"].requires_grad,
    ]


@program
def ema_of_weights(torch):
    model, x, y = regression(torch)
    ema = copy.deepcopy(model).eval()
    for p in ema.parameters():
        p.requires_grad_(False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
    for _ in range(3):
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(model(x), y).backward()
        optimizer.step()
        with torch.no_grad():
            for e, p in zip(ema.parameters(), model.parameters()):
                e.mul_(0.9).add_(p, alpha=0.1)
            for e, p in zip(ema.state_dict().values(), model.state_dict().values()):
                e.copy_(e.lerp(p, 0.01))
    return [ema[0].weight, model[0].weight, ema.training, [p.requires_grad for p in ema.parameters()], ema(x).mean()]


@program
def accumulation_and_clipping(torch):
    nn = torch.nn
    model, x, y = regression(torch)
    loss_fn = nn.MSELoss()
    loss_fn(model(x), y).backward()
    whole = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    cleared = [p.grad for p in model.parameters()]
    for xs, ys in zip(x.chunk(4), y.chunk(4)):
        (loss_fn(model(xs), ys) / 4).backward()
    close = [torch.allclose(a, p.grad, atol=1e-6) for a, p in zip(whole, model.parameters())]
    total = nn.utils.clip_grad_norm_(model.parameters(), max_norm=0.1)
    clipped = nn.utils.clip_grad_norm_(model.parameters(), float("inf"), norm_type=1)
    vector = nn.utils.parameters_to_vector(model.parameters())
    nn.utils.vector_to_parameters(vector * 0.5, model.parameters())
    model[0].weight.grad[0, 0] = float("nan")
    return [
        cleared,
        close,
        total,
        clipped,
        vector,
        model[0].weight,
        raised(lambda: nn.utils.clip_grad_norm_(model.parameters(), 1.0, error_if_nonfinite=True)),
    ]


@program
def freezing_and_groups(torch):
    nn = torch.nn
    model = nn.ModuleDict({"backbone": nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU()), "head": nn.Linear(4, 2)})
    for p in model["backbone"].parameters():
        p.requires_grad = False
    model["backbone"].eval()
    before = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.SGD(filter(lambda p: p.requires_grad, model.parameters()), lr=0.1)
    loss = model["head"](model["backbone"](torch.randn(5, 3))).logsumexp(1).mean()
    loss.backward()
    optimizer.step()
    same = {k: torch.equal(v, before[k]) for k, v in model.state_dict().items()}
    model.requires_grad_(True)
    optimizer.add_param_group({"params": model["backbone"].parameters(), "lr": 1e-3, "name": "late"})
    return [
        same,
        [(g["lr"], len(g["params"])) for g in optimizer.param_groups],
        model["backbone"][0].weight.grad,
        raised(lambda: optimizer.add_param_group({"params": [model["head"].weight]})),
        str(model),
    ]


@program
def datasets_and_loaders(torch):
    data = torch.utils.data

    class Squares(data.Dataset):
        def __init__(self, n):
            self.n = n

        def __len__(self):
            return self.n

        def __getitem__(self, i):
            return {"x": torch.tensor([float(i), i / 2]), "y": i * i, "name": f"n{i}"}

    class Stream(data.IterableDataset):
        def __iter__(self):
            info = data.get_worker_info()
            start, step = (0, 1) if info is None else (info.id, info.num_workers)
            return iter(range(start, 7, step))

    loader = data.DataLoader(Squares(5), batch_size=2, shuffle=True, generator=torch.Generator().manual_seed(4))
    results = [list(loader), len(loader), len(data.DataLoader(Squares(5), batch_size=2, drop_last=True))]
    results.append([b["y"] for b in data.DataLoader(Squares(5), batch_size=2, num_workers=2)])
    results.append(list(data.DataLoader(Stream(), batch_size=3)))
    results.append(sorted(int(v) for b in data.DataLoader(Stream(), batch_size=2, num_workers=2) for v in b))
    tensors = data.TensorDataset(torch.arange(10.0), torch.arange(10))
    train, test = data.random_split(tensors, [7, 3], generator=torch.Generator().manual_seed(0))
    results += [[int(y) for _, y in train], len(test), tensors[2:4], list(data.Subset(tensors, [1, 3]))]
    sampler = data.WeightedRandomSampler([0.1, 0.9, 0.5], 5, generator=torch.Generator().manual_seed(1))
    results += [list(sampler), list(data.BatchSampler(data.SequentialSampler(range(5)), 2, False))]
    results += [next(iter(data.DataLoader(tensors, batch_size=4, shuffle=True)))]

    def collate(batch):
        return torch.nn.utils.rnn.pad_sequence([torch.ones(n) for n in batch], batch_first=True)

    results += [list(data.DataLoader([1, 3, 2], batch_size=2, collate_fn=collate)), data.default_collate([(1, 2.0), (3, 4.0)])]
    both = data.ConcatDataset([tensors, data.TensorDataset(torch.ones(2), torch.zeros(2).long())])
    results += [len(both), both[11], raised(lambda: data.TensorDataset(torch.ones(2), torch.ones(3)))]
    results += [[b for b in data.DataLoader(range(5), batch_size=None)], raised(lambda: data.DataLoader(tensors, batch_size=0))]
    return results


@program
def training_with_logging(torch):
    F = torch.nn.functional
    data = torch.utils.data.TensorDataset(torch.randn(40, 4), torch.randint(0, 2, (40,)))
    loader = torch.utils.data.DataLoader(data, batch_size=16, shuffle=True)
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.BatchNorm1d(8), torch.nn.PReLU(), torch.nn.Linear(8, 2))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model.to(device)
    lines = []
    for epoch in range(2):
        model.train()
        for i, (x, y) in enumerate(loader):
            x, y = x.to(device, non_blocking=True), y.to(device)
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            lines.append(
                f"Train Epoch: {epoch} [{i * len(x)}/{len(loader.dataset)} ({100.0 * i / len(loader):.0f}%)]\t"
                f"Loss: {loss.item():.3f}"
            )
        model.eval()
        correct = total = 0
        with torch.no_grad():
            for x, y in loader:
                pred = model(x).argmax(dim=1, keepdim=True)
                correct += pred.eq(y.view_as(pred)).sum().item()
                total += y.size(0)
        lines.append(f"accuracy {correct}/{total} = {100 * correct / total:.1f}%")
    return lines


@program
def copying_and_pickling(torch):
    nn = torch.nn
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Dropout(0.5))
    model(torch.ones(3, 2)).sum().backward()
    clone = copy.deepcopy(model)
    again = pickle.loads(pickle.dumps(model))
    clone[0].weight.data.fill_(1.0)
    t = torch.arange(4.0).view(2, 2).t()
    u = pickle.loads(pickle.dumps(t))
    shared = copy.deepcopy([t, t])
    p = copy.deepcopy(nn.Parameter(torch.ones(2), requires_grad=False))
    return [
        model[0].weight,
        clone[0].weight,
        again[0].weight,
        clone[0].weight.grad is None,
        clone[1].running_mean,
        u,
        u.stride(),
        shared[0] is shared[1],
        type(p).__name__,
        p.requires_grad,
        copy.copy(t).data_ptr() == t.data_ptr(),
        raised(lambda: copy.deepcopy(model[0].weight * 2)),
        str(again),
        math.isclose(float(t.sum()), 6.0),
    ]
