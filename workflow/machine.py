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


def machine() -> dict:
    import threadpoolctl
    import torch

    libraries = {f"{p['internal_api']} {p.get('architecture', '')}".strip() for p in threadpoolctl.threadpool_info()}
    return {
        "cpu": cpu(),
        "instruction_set": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "blas": sorted(libraries),
        "forced": {name: os.environ[name] for name in FORCED if name in os.environ},
        "system": platform.platform(),
        "versions": {"python": platform.python_version()} | {p: _version(p) for p in PACKAGES},
    }
