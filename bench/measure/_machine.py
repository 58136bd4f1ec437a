"""What a figure depends on besides the code: processor, cores, load, versions."""

import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

# Packages whose version can move a figure.
PACKAGES = (
    "addax",
    "apache-tvm",
    "numpy",
    "onnx",
    "onnx-ir",
    "onnxruntime",
    "onnxscript",
    "onnxsim",
    "onnxslim",
    "torch",
)


def _processor() -> str:
    """The processor's name as the system states it."""
    path = Path("/proc/cpuinfo")
    if path.exists():
        for line in path.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, Any]:
    """Processor, cores, system load, Python and the versions of the packages that matter."""
    return {
        "processor": _processor(),
        "architecture": platform.machine(),
        "cores": _cores(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "system": platform.system(),
        "python": platform.python_version(),
        "versions": _versions(),
    }
