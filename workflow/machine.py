"""What a run was computed on; recorded beside its results, not required to match."""

import os
import platform
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("torch", "numpy", "scipy", "numba", "matplotlib")
# the variables that choose another instruction set or thread count
FORCED = (
    "ATEN_CPU_CAPABILITY",
    "MKL_ENABLE_INSTRUCTIONS",
    "MKL_CBWR",
    "OPENBLAS_CORETYPE",
    "DNNL_MAX_CPU_ISA",
    "NUMBA_CPU_NAME",
    "OMP_NUM_THREADS",
)


def cpu() -> str:
    try:
        found = re.search(r"^model name\s*:\s*(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found[1] if found else platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def instruction_set() -> str:
    """Return the widest one torch uses here: AVX512, AVX2 or DEFAULT, as forced or as the CPU has it."""
    if forced := os.environ.get("ATEN_CPU_CAPABILITY"):
        return forced.upper()
    try:
        flags = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return "unknown"
    wanted = {"AVX512": {"avx512f", "avx512bw", "avx512dq", "avx512vl", "fma"}, "AVX2": {"avx2", "fma"}}
    return next((name for name, needed in wanted.items() if needed <= flags), "DEFAULT")


def machine(device: str | None = None) -> dict:
    """Return what this machine is; device: "cuda" where a GPU took part, which is then named."""
    import numpy  # noqa: F401  whose BLAS is looked at; torch would take two seconds and brings its own
    import threadpoolctl

    libraries = {f"{p['internal_api']} {p.get('architecture', '')}".strip() for p in threadpoolctl.threadpool_info()}
    about = {}
    if device == "cuda":
        import torch

        about["gpu"] = torch.cuda.get_device_name()
    return about | {
        "cpu": cpu(),
        "instruction_set": instruction_set(),
        "threads": int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1),
        "blas": sorted(libraries),
        "forced": {name: os.environ[name] for name in FORCED if name in os.environ},
        "system": platform.platform(),
        "versions": {"python": platform.python_version()} | {p: _version(p) for p in PACKAGES},
    }
