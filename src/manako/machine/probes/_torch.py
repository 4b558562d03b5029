"""What the probes that use PyTorch share: which build it is, which device is tried, its memory."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from manako.core.units import show_bytes
from manako.core.words import Words
from manako.machine.finding import Finding, Probe, does_not, not_here, not_installed, works
from manako.machine.run_probe import broken

if TYPE_CHECKING:
    import torch

INSTALL_PAGE = "https://pytorch.org/get-started/locally/"
INSTALL = "pip install 'torch>=2.11'"
REPLACE = f"pip uninstall torch  # {INSTALL_PAGE}"
BACKENDS = ("cuda", "xpu", "mps")
"""Device types of PyTorch, best first; ROCm calls itself cuda."""


def build_of_torch() -> dict[str, Any] | None:
    """Version and what the installed PyTorch was built for, read without importing it; None
    where there is none."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return None
    file = Path(spec.origin).with_name("version.py")
    found: dict[str, Any] = {"version": "", "cuda": None, "hip": None, "xpu": None}
    loader = importlib.machinery.SourceFileLoader("_torch_version", str(file))
    module = importlib.util.module_from_spec(
        importlib.machinery.ModuleSpec(loader.name, loader, origin=str(file))
    )
    loader.exec_module(module)
    return found | {name: getattr(module, key, None) for name, key in _NAMES.items()}


_NAMES = {"version": "__version__", "cuda": "cuda", "hip": "hip", "xpu": "xpu"}


def no_torch() -> Finding:
    """What every such probe says where there is no PyTorch."""
    return not_installed("PyTorch がない", "there is no PyTorch", mends=INSTALL)


def best_device() -> torch.device:
    """The device on which the kernels are tried: the first that answers, else the CPU."""
    import torch

    for name in BACKENDS:
        module = getattr(torch, name, None)
        if module is not None and module.is_available():
            return torch.device(name)
    return torch.device("cpu")


def has_nvidia() -> bool:
    """Whether the system shows an NVIDIA GPU; `/dev/dxg` is WSL's."""
    files = ("/dev/nvidia0", "/proc/driver/nvidia/version", "/dev/dxg")
    return any_exists(*files) or has_program("nvidia-smi")


def has_amd() -> bool:
    """Whether the system shows an AMD GPU that ROCm knows."""
    return any_exists("/dev/kfd") or has_program("rocm-smi", "rocminfo")


def has_intel() -> bool:
    """Whether Intel's tool is there; the driver alone also serves a processor's own small GPU."""
    return has_program("xpu-smi")


def can_use_gpu() -> bool:
    """Whether a GPU and a PyTorch for it are there, told without importing it. The ordinary package
    on Linux is built for CUDA, so the build alone says nothing."""
    found = build_of_torch() or {}
    present = {"cuda": has_nvidia, "hip": has_amd, "xpu": has_intel}
    return any(found.get(name) and is_there() for name, is_there in present.items())


def look_at_backend(
    name: str, *, build: str, is_present: bool, ja: str, en: str, tool: str
) -> Finding:
    """Whether the devices of one backend compute.

    name: PyTorch's device type. build: the field of `torch.version` that tells a build for it.
    is_present: the system shows such hardware. ja, en: the hardware in words. tool: the driver's program.
    """
    found = build_of_torch()
    if found is None:
        return no_torch()
    if not found[build]:
        if not is_present:
            return not_here(f"{ja}は見つからない", f"no {en} was found", torch=found["version"])
        version = found["version"]
        return does_not(
            f"{ja}があるのに、この PyTorch（{version}）はそれ用ではない",
            f"there is {en}, and this PyTorch ({version}) is not built for it",
            mends=REPLACE,
            torch=version,
        )
    return _tried(name, is_present, ja, en, tool)


def _tried(name: str, is_present: bool, ja: str, en: str, tool: str) -> Finding:
    import torch

    module = getattr(torch, name)
    if not module.is_available():
        if not is_present:
            return not_here(f"{ja}は見つからない", f"no {en} was found", torch=torch.__version__)
        return _silent(module, ja, en, tool)
    devices = [described(name, number) for number in range(module.device_count())]
    for number in range(len(devices)):
        if (wrong := multiply_error(torch.device(name, number))) > 1e-2:
            return does_not(
                f"{devices[number]['name']} の行列積が合わない（誤差 {wrong:.3g}）",
                f"{devices[number]['name']} multiplies wrongly (error {wrong:.3g})",
                devices=devices,
            )
    words = ", ".join(f"{one['name']} {show_bytes(one['memory_bytes'])}" for one in devices)
    return works(words, words, devices=devices, torch=torch.__version__)


def _silent(module: Any, ja: str, en: str, tool: str) -> Finding:
    """Hardware and build are there, and PyTorch does not see it: its own error says most, and the
    driver's own tool the rest."""
    try:
        module.init()
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the answer
        return broken(error, mends=tool)
    return does_not(
        f"{ja}があるのに、PyTorch からは見えない。ドライバーを確かめる",
        f"there is {en}, and PyTorch does not see it: look at the driver",
        mends=tool,
    )


def described(name: str, number: int) -> dict[str, Any]:
    """Name, memory and generation of one device."""
    import torch

    module = getattr(torch, name)
    properties = module.get_device_properties(number)
    found = {"name": properties.name, "memory_bytes": int(properties.total_memory)}
    if hasattr(module, "mem_get_info"):
        found["free_bytes"] = int(module.mem_get_info(number)[0])
    if name == "cuda":
        found["capability"] = ".".join(map(str, module.get_device_capability(number)))
    return found


def multiply_error(device: torch.device) -> float:
    """The largest difference of a product on the device from the CPU's, in float32."""
    import torch

    made = torch.Generator().manual_seed(0)
    a, b = (torch.rand(64, 64, generator=made) for _ in range(2))
    return float(((a.to(device) @ b.to(device)).cpu() - a @ b).abs().max() / 64)


def has_program(*names: str) -> bool:
    """Whether one of the programs is on PATH."""
    return any(shutil.which(name) for name in names)


def any_exists(*paths: str) -> bool:
    """Whether the system shows one of the files."""
    return any(Path(path).exists() for path in paths)


def look_at_number(dtype_name: str) -> Finding:
    """A product, then an autocast step forward and backward, on the best device."""
    if build_of_torch() is None:
        return no_torch()
    import torch

    device = best_device()
    dtype = getattr(torch, dtype_name)
    errors = dict(_number_errors(device, dtype))
    facts: dict[str, Any] = {"device": device.type, "dtype": dtype_name, "errors": errors}
    worst = max(errors.values())
    if not worst < LOOSE:
        return does_not(
            f"{device.type} で計算できるが、結果が合わない（誤差 {worst:.3g}）",
            f"computes on {device.type}, and the result is off (error {worst:.3g})",
            **facts,
        )
    words = f"{device.type}: matmul, autocast forward + backward (±{worst:.1g})"
    ja = f"{device.type}: 行列積、autocast の順伝播・逆伝播（±{worst:.1g}）"
    return works(ja, words, **facts)


LOOSE = 0.05
"""Relative error that a 16-bit result of these sizes stays far below (bfloat16: about 0.005)."""


def _number_errors(device: torch.device, dtype: torch.dtype) -> Iterator[tuple[str, float]]:
    import torch

    torch.manual_seed(0)
    a, b = torch.rand(64, 64), torch.rand(64, 64)
    product = (a.to(device, dtype) @ b.to(device, dtype)).float().cpu()
    yield "matmul", _relative(product, a @ b)
    layer = torch.nn.Linear(64, 64).to(device)
    wanted = _gradient(layer, a.to(device), None)
    yield "autocast", _relative(_gradient(layer, a.to(device), dtype), wanted)


def _gradient(layer: torch.nn.Linear, x: torch.Tensor, dtype: torch.dtype | None) -> torch.Tensor:
    import torch

    layer.zero_grad()
    with torch.autocast(x.device.type, dtype=dtype, enabled=dtype is not None):
        loss = layer(x).square().mean()
    loss.backward()
    assert layer.weight.grad is not None
    return layer.weight.grad.detach().clone().cpu()


def _relative(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float(((found - wanted).norm() / wanted.norm()).nan_to_num(1e9))


def torch_probe(title: Words, look: Any, *, place: int, limit_seconds: float = 60.0) -> Probe:
    """A probe of the group `numbers`."""
    return Probe(group="numbers", title=title, look=look, place=place, limit_seconds=limit_seconds)
