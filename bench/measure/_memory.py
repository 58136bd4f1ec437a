"""The peak memory of a command."""

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

# Runs a command and reports its peak to a file descriptor. A process of its own, because Linux
# counts the memory of whoever forks as the child's: measured from a process that holds 2 GB, every
# child appears to use 2 GB.
_WITNESS = """
import os, resource, subprocess, sys, time
report, limit, *command = sys.argv[1:]
start = time.perf_counter()
try:
    status = subprocess.call(command, timeout=float(limit) or None)
except subprocess.TimeoutExpired:
    status = "timeout"
except OSError as error:
    sys.exit(f"{command[0]}: {error.strerror}")
seconds = time.perf_counter() - start
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
os.write(int(report), f"{peak} {seconds} {status}".encode())
"""


@dataclass(frozen=True)
class Peak:
    """What a child process used: peak resident bytes, elapsed seconds; and how it ended."""

    bytes: int
    seconds: float
    status: int
    output: str


def peak_memory(command: Sequence[str | Path], *, timeout: float = 0) -> Peak:
    """Run a command and measure its peak resident memory (POSIX).

    Its standard output is captured; its standard error is the caller's. The figure includes the
    libraries that the process maps and touches: subtract that of a process that does nothing.

    Args:
        command: the program and its arguments.
        timeout: seconds after which the command is killed; 0 waits for ever.

    Raises:
        RuntimeError: the command could not be started.
        subprocess.TimeoutExpired: the command took too long.
    """
    words = [str(word) for word in command]
    reader, writer = os.pipe()
    with os.fdopen(reader) as report:
        try:
            done = subprocess.run(  # noqa: S603 - a bench runs what it is told to
                [sys.executable, "-I", "-S", "-c", _WITNESS, str(writer), str(timeout), *words],
                pass_fds=(writer,),
                stdout=subprocess.PIPE,
                text=True,
                check=False,
            )
        finally:
            os.close(writer)
        found = report.read().split()
    if not found:
        raise RuntimeError(f"could not start {words[0]!r}: the line on standard error says why")
    peak, seconds, status = found
    if status == "timeout":
        raise subprocess.TimeoutExpired(words, timeout, done.stdout)
    unit = 1 if sys.platform == "darwin" else 1024
    return Peak(int(peak) * unit, float(seconds), int(status), done.stdout)
