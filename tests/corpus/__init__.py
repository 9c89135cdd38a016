"""A corpus of small programs in ordinary PyTorch style: captured, they must do what they do eagerly.

The same source runs with flambeau and with torch. `given.py` holds what a program file may import:

    from ..given import F, call, nn, program, rand, torch

    LOG = []

    @program((rand(3, 4), 2), (rand(3, 4), 3), watch=lambda: LOG)
    def scaled(x, n):
        LOG.append(n)
        return x * n

- Each argument of `@program` is one call: a tuple of arguments, or `call(x, flag=True)` with keywords. A function without
  parameters among them is an action that runs between calls: `lambda: NET.eval()`.
- The decorated thing is what gets compiled: a function, or a class, of which one instance is made (`nn.Module`s).
- `watch` returns state (globals, attributes, closures) that is compared after each call, like the arguments are.
- `backward=True` calls `.backward()` on the sum of the results, and compares gradients.
- Compared are results (values, dtypes, container types, who is who, who shares memory), types of exceptions, the
  arguments afterwards, `watch()`, and what was printed.

A file is loaded anew for the eager run and for the compiled one, so globals are nobody else's. Files are in `programs/`, one
per topic; one whose name ends in `_3_12` is loaded from that Python on.

    python -m tests.corpus                       # flambeau's graphs and compiles beside Dynamo's
    python -m tests.corpus NAME -v               # one program (or file), with its events
    .venv-peer/bin/python -m tests.corpus.record [NAME]    # measures Dynamo, writes dynamo.json

Let the first call of a program do something to a tensor: Dynamo gives up a frame without ops for good, and then has no
numbers to compare with. `graphs` counts graphs handed to the backend over all calls, `compiles` the frames (and
continuations of frames) captured, `runs` the graphs that ran in each call: where that is none of Dynamo's, it gave up.
`test_corpus.py` needs no torch.
"""
