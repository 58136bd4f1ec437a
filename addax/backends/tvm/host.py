"""This processor as TVM sees it."""

from functools import cache

import tvm


@cache
def host() -> tvm.target.Target:
    """The processor at hand, with the vector instructions and the number of cores it has."""
    found = dict(tvm.target.Target.from_device("cpu").export())
    cores = int(tvm.get_global_func("runtime.NumThreads")())
    return tvm.target.Target({**found, "num-cores": cores})
