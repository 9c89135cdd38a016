"""Detection of undefined gradients and of the forward call behind an error (PyTorch: ``torch.autograd.set_detect_anomaly``)."""

from __future__ import annotations

import contextlib
import warnings
from typing import Any

from flambeau.runtime.autograd import mode as _mode


def is_anomaly_enabled() -> bool:
    """Whether anomalies are looked for in this thread."""
    return _mode.step is not None


def is_anomaly_check_nan_enabled() -> bool:
    """Whether NaN counts as an anomaly."""
    return _mode.step is None or _mode.step.check_nan


def set_anomaly_enabled(enabled: bool, check_nan: bool = True) -> None:
    """Turn detection on or off for this thread."""
    from flambeau.runtime.observers import set_anomaly  # noqa: PLC0415 - nobody pays for it who does not use it
    set_anomaly(enabled, check_nan)


class set_detect_anomaly(contextlib.ContextDecorator):  # noqa: N801 - PyTorch's name
    """Turns detection on or off at once; as a context manager it restores it at the end.

    While on, each step of the tape keeps the place of its forward call, which is shown where its derivative raises an error or
    (with ``check_nan``) returns NaN: ``RuntimeError: Function 'SqrtBackward0' returned nan values in its 0th output.``
    """

    def __init__(self, mode: bool, check_nan: bool = True) -> None:
        self.prev, self.prev_check_nan = is_anomaly_enabled(), is_anomaly_check_nan_enabled()
        set_anomaly_enabled(mode, check_nan)

    def __enter__(self) -> None:
        return None

    def __exit__(self, *exc: Any) -> None:
        set_anomaly_enabled(self.prev, self.prev_check_nan)


class detect_anomaly(contextlib.ContextDecorator):  # noqa: N801 - PyTorch's name
    """A block in which anomalies are looked for."""

    def __init__(self, check_nan: bool = True) -> None:
        self.check_nan = check_nan
        warnings.warn("Anomaly Detection has been enabled. This mode will increase the runtime and should only be enabled for "
                      "debugging.", stacklevel=2)

    def __enter__(self) -> None:
        self.prev, self.prev_check_nan = is_anomaly_enabled(), is_anomaly_check_nan_enabled()
        set_anomaly_enabled(True, self.check_nan)

    def __exit__(self, *exc: Any) -> None:
        set_anomaly_enabled(self.prev, self.prev_check_nan)


__all__ = ["detect_anomaly", "is_anomaly_check_nan_enabled", "is_anomaly_enabled", "set_anomaly_enabled", "set_detect_anomaly"]
