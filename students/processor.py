"""Which numbers this machine computes in: bf16 where its processor has instructions for them, else float32."""

from pathlib import Path
from typing import Literal

CPUINFO = Path("/proc/cpuinfo")
BF16 = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
"""What processors that have them call it: x86 the first two, Arm the last."""

Dtype = Literal["bfloat16", "float32"]


def dtype_on(device: str, cpuinfo: Path = CPUINFO) -> Dtype:
    """Of the processor unless the device is a GPU. Where nothing tells, float32: bf16 without instructions is emulated,
    and took 4 to 80 times as long as float32 (docs/decisions/0006)."""
    if device != "cpu":
        return "bfloat16"
    told = cpuinfo.read_text(encoding="utf-8", errors="replace") if cpuinfo.exists() else ""
    return "bfloat16" if BF16 & set(told.split()) else "float32"
