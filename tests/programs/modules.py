"""Modules: containers, registration, conversion, initialization, what they print, and what scripts import."""

from __future__ import annotations

from collections import OrderedDict
from importlib import import_module

from .registry import message, program, raised


@program
def module_conversion(torch):
    nn = torch.nn

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(2, 2)
            self.register_buffer("steps", torch.zeros(1, dtype=torch.long))
            self.register_buffer("cache", torch.ones(2), persistent=False)
            self.register_parameter("none", None)
            self.scale = nn.Parameter(torch.ones(1))
            self.table = torch.ones(2)

        def forward(self, x):
            return self.fc(x) * self.scale

    net = Net()
    results = [list(net.state_dict()), [n for n, _ in net.named_buffers()], [n for n, _ in net.named_parameters()], str(net)]
    results += [
        str(net.double().fc.weight.dtype),
        str(net.steps.dtype),
        str(net.half().cache.dtype),
        str(net.to(torch.bfloat16).scale.dtype),
        net.float().to("cpu") is net,
        str(net.table.dtype),
    ]
    seen = []
    net.apply(lambda m: seen.append(type(m).__name__))
    net.train(False)
    results += [
        seen,
        net.fc.training,
        [n for n, _ in net.named_modules()],
        [n for n, _ in net.named_children()],
        net.none,
        net.get_submodule("fc") is net.fc,
        net.get_parameter("fc.bias").shape,
        raised(lambda: net.missing),
        message(lambda: net.missing),
    ]
    del net.fc
    net.extra = nn.ReLU()
    net.add_module("act", nn.Tanh())
    net.scale = None
    results += [
        str(net),
        raised(lambda: setattr(net, "scale", torch.ones(1))),
        raised(lambda: net.register_buffer("a.b", None)),
        raised(lambda: nn.Module()(1)),
    ]

    class Forgetful(nn.Module):
        def __init__(self):
            self.fc = nn.Linear(1, 1)

    return [
        *results,
        message(Forgetful),
        sum(p.numel() for p in Net().parameters() if p.requires_grad),
        Net().eval().training,
        Net()._get_name(),
        dict(Net().named_parameters(prefix="p"))["p.scale"],
        len(list(Net().children())),
    ]


@program
def containers(torch):
    nn = torch.nn
    seq = nn.Sequential(nn.Linear(1, 2), nn.ReLU())
    seq.append(nn.Linear(2, 1)).insert(1, nn.Identity())
    seq[1] = nn.Tanh()
    del seq[0]
    named = nn.Sequential(OrderedDict([("a", nn.Linear(2, 2)), ("b", nn.Sigmoid())]))
    modules = nn.ModuleList([nn.Linear(1, 1)] * 2)
    modules.extend([nn.ReLU(), nn.Linear(1, 3)])
    entries = nn.ModuleDict({"x": nn.Linear(1, 1)})
    entries.update({"y": nn.ReLU()})
    entries["z"] = nn.Dropout()
    popped = entries.pop("x")
    parameters = nn.ParameterList([nn.Parameter(torch.ones(2)), torch.zeros(1)])
    parameters.append(nn.Parameter(torch.ones(3)))
    table = nn.ParameterDict({"w": nn.Parameter(torch.ones(2)), "b": nn.Parameter(torch.zeros(1))})

    class Holder(nn.Module):
        def __init__(self):
            super().__init__()
            self.list, self.table, self.mods = parameters, table, modules

    holder = Holder()
    return [
        str(seq),
        str(seq[1:]),
        len(seq),
        str(named),
        str(named.a),
        str(modules),
        len(list(modules.parameters())),
        str(modules[-1]),
        list(entries),
        str(entries),
        str(popped),
        "y" in entries,
        str(parameters),
        str(table),
        list(holder.state_dict()),
        [tuple(p.shape) for p in holder.parameters()],
        raised(lambda: modules[9]),
        raised(lambda: nn.ModuleList([1])),
        raised(lambda: modules(1)),
        str(nn.Sequential()),
        str(nn.Sequential(nn.Sequential(nn.ReLU()))),
    ]


@program
def module_texts(torch):
    nn = torch.nn
    return [
        repr(m)
        for m in (
            nn.Linear(2, 3, bias=False),
            nn.Bilinear(2, 3, 4),
            nn.Conv1d(1, 2, 3),
            nn.Conv2d(3, 6, (3, 5), stride=(1, 2), padding=(1, 2), dilation=2, groups=3, bias=False, padding_mode="circular"),
            nn.Conv3d(1, 1, 1),
            nn.ConvTranspose2d(2, 4, 3, 2, 1, 1),
            nn.BatchNorm1d(3),
            nn.BatchNorm2d(4, affine=False, track_running_stats=False),
            nn.LayerNorm((3, 4), elementwise_affine=False),
            nn.GroupNorm(2, 4),
            nn.InstanceNorm1d(3),
            nn.RMSNorm(5),
            nn.LocalResponseNorm(2),
            nn.ReLU(inplace=True),
            nn.LeakyReLU(0.2),
            nn.PReLU(),
            nn.ELU(),
            nn.SELU(),
            nn.CELU(0.5),
            nn.GELU(),
            nn.GELU("tanh"),
            nn.SiLU(),
            nn.Mish(),
            nn.Softplus(),
            nn.Hardtanh(-2, 2),
            nn.Softmax(dim=1),
            nn.LogSoftmax(-1),
            nn.Threshold(0.1, 20),
            nn.GLU(),
            nn.Sigmoid(),
            nn.Hardsigmoid(),
            nn.Softshrink(),
            nn.Tanhshrink(),
            nn.RReLU(),
            nn.Dropout(0.1),
            nn.Dropout2d(),
            nn.AlphaDropout(),
            nn.MaxPool2d(2),
            nn.MaxPool1d(3, 2, 1),
            nn.AvgPool2d(2, ceil_mode=True),
            nn.AdaptiveAvgPool2d((1, None)),
            nn.AdaptiveMaxPool1d(3),
            nn.LPPool2d(2, 3),
            nn.Flatten(),
            nn.Unflatten(1, (2, 3)),
            nn.Identity(),
            nn.Embedding(10, 3, padding_idx=0),
            nn.LSTM(2, 3, 2, dropout=0.5, bidirectional=True),
            nn.GRUCell(1, 2),
            nn.Upsample(scale_factor=2, mode="nearest"),
            nn.PixelShuffle(2),
            nn.ZeroPad2d(1),
            nn.ReflectionPad2d((1, 2, 3, 4)),
            nn.ConstantPad1d(1, 2.0),
            nn.MultiheadAttention(4, 2),
            nn.CrossEntropyLoss(),
            nn.MSELoss(),
            nn.CosineSimilarity(),
            nn.Fold((4, 4), 2),
            nn.Unfold(2),
            nn.TransformerEncoderLayer(4, 2, 8),
            nn.ChannelShuffle(2),
            nn.LazyConv2d(3, 2),
            nn.SyncBatchNorm(3),
            nn.Softmax2d(),
            nn.KLDivLoss(),
            nn.UpsamplingBilinear2d(scale_factor=2),
            nn.MaxUnpool2d(2),
            nn.Hardshrink(),
            nn.LogSigmoid(),
            nn.PairwiseDistance(),
        )
    ]


@program
def losses(torch):
    nn = torch.nn
    x, y, p = torch.randn(4, 3, requires_grad=True), torch.randn(4, 3), torch.rand(4, 3)
    labels, multi = torch.tensor([0, 2, 1, 1]), torch.tensor([[2, -1, 0], [0, 1, -1], [1, -1, 0], [0, 1, 2]])
    results = []
    for reduction in ("mean", "sum", "none"):
        kw = {"reduction": reduction}
        for value in (
            nn.MSELoss(**kw)(x, y),
            nn.L1Loss(**kw)(x, y),
            nn.SmoothL1Loss(**kw, beta=0.5)(x, y),
            nn.HuberLoss(**kw)(x, y),
            nn.CrossEntropyLoss(**kw, weight=torch.tensor([1.0, 2.0, 3.0]))(x, labels),
            nn.CrossEntropyLoss(**kw)(x, p / p.sum(1, keepdim=True)),
            nn.NLLLoss(**kw, ignore_index=1)(x.log_softmax(1), labels),
            nn.BCEWithLogitsLoss(**kw, pos_weight=torch.ones(3) * 2)(x, p),
            nn.BCELoss(**kw)(x.sigmoid(), p),
            nn.KLDivLoss(**kw)(x.log_softmax(1), p),
            nn.KLDivLoss(**kw, log_target=True)(x.log_softmax(1), y.log_softmax(1)),
            nn.PoissonNLLLoss(**kw)(x, p),
            nn.GaussianNLLLoss(**kw)(x, y, p),
            nn.HingeEmbeddingLoss(**kw)(x, y.sign()),
            nn.MultiMarginLoss(**kw)(x, labels),
            nn.MultiLabelMarginLoss(**kw)(x, multi),
            nn.MultiLabelSoftMarginLoss(**kw)(x, (p > 0.5).float()),
            nn.SoftMarginLoss(**kw)(x, y.sign()),
            nn.TripletMarginLoss(**kw)(x, y, p),
        ):
            (g,) = torch.autograd.grad(value.sum(), x)
            results += [value, g[0]]
    return [
        *results,
        raised(lambda: nn.CrossEntropyLoss()(x, torch.tensor([0, 1, 2, 3]))),
        raised(lambda: nn.MSELoss(reduction="other")(x, y)),
        raised(lambda: nn.BCELoss()(x * 10, p)),
        raised(lambda: nn.CrossEntropyLoss()(x, labels[:2])),
    ]


@program
def activations(torch):
    F = torch.nn.functional
    x = torch.linspace(-4, 4, 9, requires_grad=True)
    results = []
    for f in (
        F.relu,
        F.relu6,
        F.leaky_relu,
        F.elu,
        F.selu,
        F.celu,
        F.gelu,
        F.silu,
        F.mish,
        F.softplus,
        F.softsign,
        F.tanhshrink,
        F.hardshrink,
        F.softshrink,
        F.hardsigmoid,
        F.hardswish,
        F.hardtanh,
        F.logsigmoid,
        F.sigmoid,
        F.tanh,
        lambda t: F.threshold(t, 0.5, -1.0),
        lambda t: F.softmin(t, 0),
        lambda t: F.glu(t[:8]),
        lambda t: F.prelu(t, torch.tensor([0.1])),
        lambda t: F.softplus(t, beta=2, threshold=3),
        lambda t: F.normalize(t, dim=0),
        lambda t: F.log_softmax(t, -1),
        lambda t: F.rrelu(t, training=False),
        lambda t: F.layer_norm(t, (9,)),
        lambda t: F.rms_norm(t, (9,)),
        torch.erf,
        torch.lgamma,
        torch.digamma,
        torch.sinc,
        torch.expm1,
        torch.atan,
        torch.sinh,
        torch.asinh,
        torch.logit,
        torch.square,
    ):
        y = f(x)
        (g,) = torch.autograd.grad(y.nan_to_num().sum(), x)
        results += [y, g.nan_to_num(posinf=9, neginf=-9)]
    return results


@program
def initialization(torch):
    nn, init = torch.nn, torch.nn.init
    w = torch.empty(4, 6)
    results = [
        f(w).clone()
        for f in (
            init.uniform_,
            init.normal_,
            init.zeros_,
            init.ones_,
            init.eye_,
            init.xavier_uniform_,
            init.xavier_normal_,
            init.kaiming_uniform_,
            init.kaiming_normal_,
            init.trunc_normal_,
            lambda t: init.constant_(t, 3.0),
            lambda t: init.kaiming_uniform_(t, a=5**0.5),
            lambda t: init.xavier_uniform_(t, gain=init.calculate_gain("relu")),
        )
    ]
    results += [
        (lambda q: (q @ q.T).round(decimals=4))(init.orthogonal_(torch.empty(3, 5))),
        (init.sparse_(torch.empty(10, 3), 0.5) == 0).sum(0),
        init.dirac_(torch.empty(2, 2, 3)),
        init.calculate_gain("leaky_relu", 0.2),
    ]
    torch.manual_seed(2)
    layers = [
        nn.Linear(3, 2),
        nn.Conv2d(2, 2, 2),
        nn.Embedding(3, 2),
        nn.LSTM(2, 2),
        nn.GRU(1, 1, bidirectional=True),
        nn.MultiheadAttention(4, 2),
        nn.TransformerEncoderLayer(4, 1, 4),
        nn.ConvTranspose1d(1, 2, 3),
        nn.Bilinear(2, 2, 1),
        nn.EmbeddingBag(2, 2),
        nn.LSTMCell(1, 1),
        nn.PReLU(2),
        nn.LayerNorm(2),
    ]
    return [
        *results,
        [[p.sum() for p in layer.parameters()] for layer in layers],
        raised(lambda: init.xavier_uniform_(torch.ones(3))),
    ]


@program
def utilities_of_nn(torch):
    nn = torch.nn
    utils = import_module(f"{nn.__name__}.utils")
    model = nn.Linear(2, 1)
    before = model.weight.clone()
    func = torch.func.functional_call(model, {"weight": torch.ones(1, 2), "bias": torch.zeros(1)}, (torch.ones(3, 2),))
    w = torch.zeros(1, 2, requires_grad=True)
    torch.func.functional_call(model, {"weight": w}, torch.ones(3, 2)).sum().backward()
    copies = torch.nn.ModuleList([nn.Linear(1, 1) for _ in range(2)])
    flat = utils.parameters_to_vector(copies.parameters())
    return [
        func,
        w.grad,
        model.weight.grad,
        torch.equal(before, model.weight),
        flat,
        raised(lambda: torch.func.functional_call(model, {"other": w}, torch.ones(1, 2), strict=True)),
        utils.get_total_norm([torch.ones(4), torch.ones(5)]),
    ]


@program
def names_at_import(torch):
    library = torch.__name__
    nn, F = import_module(f"{library}.nn"), import_module(f"{library}.nn.functional")
    modules = import_module(f"{library}.nn.modules")
    batchnorm = import_module(f"{library}.nn.modules.batchnorm")
    loss, conv = import_module(f"{library}.nn.modules.loss"), import_module(f"{library}.nn.modules.conv")
    amp, cudnn = import_module(f"{library}.amp"), import_module(f"{library}.backends.cudnn")
    checkpoint = import_module(f"{library}.utils.checkpoint")
    types, multiprocessing = import_module(f"{library}.types"), import_module(f"{library}.multiprocessing")
    import_module(f"{library}.cuda.amp"), import_module(f"{library}.nn.parallel"), import_module(f"{library}.optim.optimizer")
    variable = import_module(f"{library}.autograd").Variable
    import_module(f"{library}.utils.data.sampler")
    scheduler = import_module(f"{library}.optim.lr_scheduler")
    cudnn.benchmark = True
    cudnn.deterministic = False
    torch.backends.cudnn.enabled = True
    torch.backends.cuda.matmul.allow_tf32 = True
    torch.set_float32_matmul_precision("high")
    torch.cuda.manual_seed_all(0)
    torch.use_deterministic_algorithms(True)
    torch.use_deterministic_algorithms(False)
    torch.autograd.set_detect_anomaly(False)
    torch.set_num_threads(torch.get_num_threads())
    with torch.autograd.profiler.record_function("block"):
        pass

    def annotated(
        x: torch.Tensor, d: torch.dtype, e: torch.device, m: torch.nn.Module | None = None, g: torch.Generator | None = None
    ) -> torch.FloatTensor:
        return x

    return [
        torch.cuda.is_available(),
        torch.cuda.device_count(),
        cudnn.is_available() in (True, False),
        torch.backends.mps.is_available(),
        torch.distributed.is_available() in (True, False),
        torch.version.cuda,
        str(torch.__version__)[0].isdigit(),
        torch.get_default_dtype(),
        torch.get_float32_matmul_precision(),
        modules.Linear is nn.Linear,
        batchnorm.BatchNorm2d is nn.BatchNorm2d,
        loss.CrossEntropyLoss is nn.CrossEntropyLoss,
        conv.Conv2d is nn.Conv2d,
        issubclass(nn.BatchNorm1d, batchnorm._BatchNorm),
        isinstance(nn.MSELoss(), loss._Loss),
        issubclass(nn.Conv1d, conv._ConvNd),
        types.Device is not None,
        multiprocessing.cpu_count() > 0,
        checkpoint.checkpoint is not None,
        isinstance(scheduler.StepLR, type),
        issubclass(scheduler.StepLR, scheduler.LRScheduler),
        annotated(torch.ones(1), torch.float32, torch.device("cpu")),
        F.relu is nn.functional.relu,
        variable(torch.ones(1)),
        amp.autocast is torch.autocast,
        torch.jit.is_scripting(),
        torch.utils.data.get_worker_info(),
        torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        hasattr(torch, "compile"),
        isinstance(torch.float32, torch.dtype),
        isinstance(torch.device("cpu"), torch.device),
        torch.Tensor.__name__,
        torch.nn.Parameter.__name__,
        isinstance(torch.strided, torch.layout),
        torch.is_grad_enabled(),
        torch.default_generator.initial_seed(),
    ]


@program
def mixed_precision(torch):
    nn, F = torch.nn, torch.nn.functional
    model = nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.ReLU(), nn.Linear(8, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    x, y = torch.randn(6, 4), torch.randint(0, 2, (6,))
    found = []
    for _ in range(2):
        optimizer.zero_grad()
        with torch.autocast(device_type="cpu", dtype=torch.bfloat16):
            out = model(x)
            loss = F.cross_entropy(out, y)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update()
        found += [loss.dtype, round(float(loss), 1), model[0].weight.grad.dtype]
    with torch.autocast("cpu", enabled=False):
        found.append((x @ x.T).dtype)
    halves, target = nn.Linear(4, 2).to(torch.bfloat16), torch.ones(6, 2, dtype=torch.bfloat16)
    optimizer, scaler = (
        torch.optim.SGD(halves.parameters(), lr=0.1),
        torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=2),
    )
    for bad in (1.0, float("inf"), 1.0, 1.0):
        optimizer.zero_grad()
        scaler.scale(F.mse_loss(halves(x.bfloat16()), target) * bad).backward()
        scaler.step(optimizer)
        scaler.update()
        found += [scaler.get_scale(), halves.bias]
    found.append(scaler.state_dict())
    return [*found, torch.get_autocast_dtype("cpu"), (x @ x.T).dtype, torch.is_autocast_enabled("cpu")]


@program
def harmless_decorators(torch):
    jit = torch.jit

    @jit.script
    def swish(x):
        return x * torch.sigmoid(x)

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = torch.nn.Linear(2, 2)

        @jit.ignore
        def helper(self, x):
            return x + 1

        @jit.export
        def other(self, x):
            return x * 2

        def forward(self, x):
            return self.fc(self.helper(x)) if not jit.is_scripting() else x

    net = Net()
    checkpoint = import_module(f"{torch.__name__}.utils.checkpoint").checkpoint
    x = torch.ones(3, 2, requires_grad=True)
    y = checkpoint(net, x, use_reentrant=False)
    y.sum().backward()

    @torch.compiler.disable
    def plain(x):
        return x + 1

    with torch.autograd.detect_anomaly():
        z = (x * 2).sum()
    torch.testing.assert_close(torch.ones(2), torch.ones(2) + 1e-7)
    return [
        swish(torch.ones(2)),
        net.other(torch.ones(1)),
        y,
        x.grad,
        net.fc.weight.grad,
        plain(x),
        z,
        raised(lambda: torch.testing.assert_close(torch.ones(2), torch.zeros(2))),
        raised(lambda: torch.testing.assert_close(torch.ones(2), torch.ones(2).double())),
        torch.compiler.is_compiling(),
    ]


@program
def pooling_and_resizing(torch):
    F = torch.nn.functional
    x = torch.randn(1, 2, 7, 6, requires_grad=True)
    theta = torch.tensor([[[1.0, 0.2, 0.1], [0.0, 0.9, -0.2]]])
    values = [
        F.max_pool2d(x, 3, 2, 1),
        F.max_pool2d(x, 2, return_indices=True)[1],
        F.avg_pool2d(x, 2, ceil_mode=True),
        F.avg_pool2d(x, 3, 2, 1, divisor_override=5),
        F.adaptive_avg_pool2d(x, (3, 4)),
        F.adaptive_max_pool2d(x, 2),
        F.lp_pool2d(x, 2, 2),
        F.max_pool2d(x, 2, dilation=2),
        F.interpolate(x, scale_factor=2),
        F.interpolate(x, (5, 9), mode="bilinear", align_corners=True),
        F.interpolate(x, (3, 3), mode="bicubic"),
        F.interpolate(x, (3, 3), mode="area"),
        F.interpolate(x[0], 4, mode="linear"),
        F.interpolate(x, (3, 2), mode="nearest-exact"),
        F.grid_sample(x, F.affine_grid(theta, (1, 2, 4, 4), align_corners=False), align_corners=False),
        F.pixel_shuffle(x[:, :, :6].repeat(1, 2, 1, 1), 2),
        F.pixel_unshuffle(x[:, :, :6], 2),
        F.max_unpool2d(*F.max_pool2d(x[:, :, :6], 2, return_indices=True), 2),
        F.local_response_norm(x, 2),
        F.group_norm(x, 2),
        F.instance_norm(x),
    ]
    sum(v.float().sum() * (i + 1) for i, v in enumerate(values) if v.is_floating_point()).backward()
    return [*values, x.grad]
