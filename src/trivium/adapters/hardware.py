"""What the machine has to compute with."""

from __future__ import annotations


def bf16_is_fast() -> bool:
    """Whether this machine multiplies bfloat16 in hardware.

    A processor that does not is about nine times slower with it than with float32 (MiniLM on one
    core with AVX2 alone: 8 texts a second instead of 75).
    """
    import torch

    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    can = torch.cpu.get_capabilities()
    return any(can.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def device_name() -> str:
    """`cuda` if there is a card, else `cpu`."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
