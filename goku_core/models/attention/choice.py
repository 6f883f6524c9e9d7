"""Which back end: asked for by name, or the fastest that can run here."""

from __future__ import annotations

import importlib.util
import logging
from functools import lru_cache

import torch

BACKENDS = ("sdpa", "varlen", "flash", "flex")
HALF = (torch.float16, torch.bfloat16)
log = logging.getLogger(__name__)


def choose(asked: str, device: torch.device, dtype: torch.dtype) -> tuple[str, str]:
    """(back end, why). `asked` is "auto" or one of `BACKENDS`.

    Raises ValueError where a back end is unknown or cannot run on this device and type.
    """
    if asked != "auto" and asked not in BACKENDS:
        raise ValueError(f'attention "{asked}": known are auto, {", ".join(BACKENDS)}')
    obstacle = _obstacle_of_kernels(device, dtype)
    if asked == "auto":
        if obstacle:
            return "sdpa", obstacle
        if _hopper(device) and activate_flash3():
            return "varlen", "FlashAttention 3 is installed and the GPU is Hopper"
        if _installed("flash_attn"):
            return "flash", "flash-attn is installed"
        return "varlen", "FlashAttention 2 of torch; flash-attn is not installed"
    if asked in ("varlen", "flash") and obstacle:
        raise ValueError(f'attention "{asked}" cannot run: {obstacle}. Use attention "auto" or "sdpa"')
    if asked == "flash" and not _installed("flash_attn"):
        raise ValueError('attention "flash" needs the package flash-attn: pip install flash-attn --no-build-isolation')
    if asked == "varlen" and _hopper(device):
        activate_flash3()
    return asked, "asked for"


@lru_cache(maxsize=64)
def resolve(asked: str, device: torch.device, dtype: torch.dtype) -> str:
    """The back end's name; says once per device and type which was taken and why."""
    backend, reason = choose(asked, device, dtype)
    log.info("attention: %s on %s in %s (%s)", backend, device.type, str(dtype).removeprefix("torch."), reason)
    return backend


def _obstacle_of_kernels(device: torch.device, dtype: torch.dtype) -> str:
    """Why FlashAttention's kernels cannot run, or nothing."""
    if device.type != "cuda":
        return f"variable-length kernels need CUDA, the tensors are on {device.type}"
    if dtype not in HALF:
        return f"variable-length kernels need float16 or bfloat16, not {str(dtype).removeprefix('torch.')}"
    major, minor = torch.cuda.get_device_capability(device)
    if major < 8:
        return f"variable-length kernels need compute capability 8.0, the GPU has {major}.{minor}"
    return ""


def _hopper(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.get_device_capability(device)[0] == 9


def _installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


@lru_cache(maxsize=1)
def activate_flash3() -> bool:
    """Lets torch's variable-length attention use FlashAttention 3, where its package is installed."""
    if not _installed("flash_attn_interface"):
        return False
    from torch.nn.attention import activate_flash_attention_impl

    try:
        activate_flash_attention_impl("FA3")
    except (ImportError, RuntimeError, ValueError) as error:
        log.warning("flash_attn_interface is installed but torch cannot use it: %s", error)
        return False
    return True
