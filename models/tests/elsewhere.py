"""A device that is none: tensors that say that they are elsewhere and compute on the CPU all the same. Whoever brings
one together with a tensor that was left on the CPU is refused, as by CUDA; so training can be tried without a GPU.

PyTorch's `meta` is its name. PyTorch's own tensors of that device hold no numbers; these do.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map

AWAY = torch.device("meta")
CPU = torch.device("cpu")
Func = Callable[..., Any]  # an operator of PyTorch
aten = torch.ops.aten
CARRIES = (aten._to_copy.default, aten.copy_.default)  # from one device to the other


class Elsewhere(torch.Tensor):
    here: torch.Tensor

    @staticmethod
    def __new__(cls: type["Elsewhere"], here: torch.Tensor) -> "Elsewhere":
        made: Elsewhere = torch.Tensor._make_wrapper_subclass(
            cls,
            here.shape,
            strides=here.stride(),
            storage_offset=here.storage_offset(),
            dtype=here.dtype,
            device=AWAY,
            requires_grad=here.requires_grad,
        )
        made.here = here
        return made

    def __repr__(self) -> str:  # type: ignore[override] # of the tensor's contents
        return f"Elsewhere({self.here})"

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls,
        func: Func,
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        return computed(func, args, kwargs or {})


class Pretending(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """What is made on the device is Elsewhere. Counts what was computed there."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls = 0

    def __torch_dispatch__(
        self,
        func: Func,
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        self.calls += any(isinstance(x, Elsewhere) for x in tree_flatten((args, kwargs or {}))[0])
        return computed(func, args, kwargs or {})


def computed(func: Func, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:  # noqa: ANN401
    given = [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, torch.Tensor)]
    away = [x for x in given if isinstance(x, Elsewhere)]
    asked = kwargs.get("device")
    if away and func not in CARRIES:
        left = [x for x in given if not isinstance(x, Elsewhere) and x.dim()]
        if left:
            raise RuntimeError(f"{func}: a tensor {tuple(left[0].shape)} was left on the CPU, another is elsewhere")
    args_here, kwargs_here = tree_map(opened, (args, kwargs))
    if asked is not None:
        kwargs_here["device"] = CPU
    found = func(*args_here, **kwargs_here)
    if func is aten.copy_.default:
        return given[0]  # is where it was
    if asked is not None or not away:
        return tree_map(closed, found) if asked == AWAY else found
    return return_and_correct_aliasing(func, args, kwargs, tree_map(closed, found))  # type: ignore[no-untyped-call]


def opened(x: Any) -> Any:  # noqa: ANN401
    return x.here if isinstance(x, Elsewhere) else x


def closed(x: Any) -> Any:  # noqa: ANN401
    return Elsewhere(x) if isinstance(x, torch.Tensor) and not isinstance(x, Elsewhere) else x
