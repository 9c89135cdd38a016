"""Where a tensor lives."""

from __future__ import annotations

_TYPES = ("cpu", "cuda", "meta")


class Device:
    """A device: ``Device("cpu")``, ``Device("cuda", 1)``, ``Device("cuda:1")`` (PyTorch: ``torch.device``)."""

    __slots__ = ("type", "index")

    type: str
    index: int | None

    def __init__(self, type: str | Device, index: int | None = None) -> None:  # noqa: A002 - PyTorch's name
        if isinstance(type, Device):
            index, type = type.index, type.type
        if not isinstance(type, str):
            if isinstance(type, int):
                type, index = "cuda", type
            else:
                raise TypeError(f"device(): argument 'type' must be str, not {type.__class__.__name__}")
        if ":" in type:
            if index is not None:
                raise RuntimeError(f"type (string) must not include an index because index was passed explicitly: {type}")
            type, _, number = type.partition(":")
            if not number.isdigit():
                raise RuntimeError(f"Invalid device string: '{type}:{number}'")
            index = int(number)
        if type not in _TYPES:
            raise RuntimeError(f"Expected one of {', '.join(_TYPES)} device type at start of device string: {type}")
        self.type, self.index = type, index

    def __repr__(self) -> str:
        return f"device(type={self.type!r}" + ("" if self.index is None else f", index={self.index}") + ")"

    def __str__(self) -> str:
        return self.type if self.index is None else f"{self.type}:{self.index}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Device) and (self.type, self.index) == (other.type, other.index)

    def __hash__(self) -> int:
        return hash((self.type, self.index))

    def __reduce__(self) -> tuple:
        return Device, (self.type, self.index)

    def __enter__(self) -> Device:
        """In this block, tensors are made on this device unless one is given."""
        _outer.append(_default)
        set_default(self)
        return self

    def __exit__(self, *error: object) -> None:
        global _default
        _default = _outer.pop()


cpu = Device("cpu")
meta = Device("meta")


_default = cpu
_outer: list[Device] = []  # the defaults of the blocks around the current one


def set_default(value: object) -> None:
    """Set the device that stands for None."""
    global _default
    _default = cpu
    _default = as_device(value)


def as_device(value: object) -> Device:
    """``value`` (None, str, int or Device) as a Device; CUDA without an index means device 0, None the default one."""
    if value is None:
        return _default
    found = value if isinstance(value, Device) else Device(value)  # type: ignore[arg-type]
    if found.type == "cpu":
        return cpu
    if found.type == "meta":
        return meta
    return found if found.index is not None else Device("cuda", 0)
