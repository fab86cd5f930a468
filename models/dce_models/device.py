"""Where training computes: the CPU, or a GPU that was asked for. Never another than that in silence.

Everything random is drawn on the CPU and carried over, so that a seed means the same weights to begin with, batches and
masks on each device. What is kept of a run lies on the CPU, and so do exports."""

import os
import re
from collections.abc import Callable
from typing import Any

import torch

from .spec import SpecError

CPU = torch.device("cpu")
WORKSPACE = ("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS adds up in an order of its own


def chosen(asked: str, say: Callable[[str], None]) -> torch.device:
    """`cpu`; `cuda` or `cuda:N`, or an error that names what is missing; `auto`: cuda:0 where it is there, else the
    CPU, and it says which."""
    if asked == "auto":
        missing = lacking(0)
        say(f"device auto: cpu, for {missing}" if missing else "device auto: cuda:0")
        return CPU if missing else cuda(0)
    if asked == "cpu":
        return CPU
    if not (found := re.fullmatch(r"cuda(?::([0-9]{1,3}))?", asked)):
        raise SpecError(f"device {asked!r}: must be auto, cpu, cuda or cuda:N")
    number = int(found[1] or 0)
    if missing := lacking(number):
        raise SpecError(f"device {asked}: {missing}")
    return cuda(number)


def lacking(number: int) -> str:
    """What keeps PyTorch from that GPU; empty: nothing."""
    if torch.version.cuda is None:
        return f"this PyTorch ({torch.__version__}) is built without CUDA; install one with it"
    count = torch.cuda.device_count()
    if count == 0:
        return f"PyTorch {torch.__version__} finds no GPU: no NVIDIA driver, or CUDA_VISIBLE_DEVICES hides them all"
    if number >= count:
        return f"there is no GPU {number}: PyTorch counts {count}, the first one 0"
    try:
        torch.zeros(1, device=torch.device("cuda", number))
    except (RuntimeError, AssertionError) as wrong:  # it is counted where the driver is too old, too
        return f"PyTorch cannot use it: {str(wrong).splitlines()[0]}"
    return ""


def cuda(number: int) -> torch.device:
    """The GPU, set to give the same bits each time and no fewer of them than the CPU's floats have."""
    os.environ.setdefault(*WORKSPACE)  # read when cuBLAS is first used
    torch.backends.cuda.matmul.fp32_precision = "ieee"
    torch.backends.cudnn.rnn.fp32_precision = "ieee"  # type: ignore[attr-defined] # GRUs' default is TF32, to 1e-3
    torch.backends.cudnn.benchmark = False
    return torch.device("cuda", number)


def name(device: torch.device) -> str:
    """For people: cpu, or a GPU's number and what it is."""
    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)


def reproducible(seed: int) -> None:
    """The same bytes each time, on one kind of device."""
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)  # sums in another order are other weights; and these matrices are small


def on_cpu(kept: Any) -> Any:  # noqa: ANN401 # of a run: dicts, lists, tensors, texts and numbers
    """The same with every tensor on the CPU, so that a run loads where no GPU is."""
    if isinstance(kept, torch.Tensor):
        return kept.cpu()
    if isinstance(kept, dict):
        return type(kept)((key, on_cpu(value)) for key, value in kept.items())
    if isinstance(kept, list | tuple):
        return type(kept)(on_cpu(value) for value in kept)
    return kept
