"""The text of the CUDA kernels computes the formula, run as C++ by threads of this processor."""

import numpy as np
import pytest

pytest.importorskip("tvm", reason="source is written by TVM, which is not installed")

from addax.backends.gpu.layers import layers_of
from addax.backends.tvm.sources import kernel_sources
from tests.backends.ort.libraries import FORMS, layer, representable, weights
from tests.backends.tvm.cuda_host import CudaOnHost, compiler

QUICK = ("codebook4", "int8")
CASES = [pytest.param(f, marks=() if f in QUICK else pytest.mark.slow) for f in FORMS]


@pytest.mark.skipif(compiler() is None, reason="there is no C++ compiler")
@pytest.mark.parametrize("form", CASES)
def test_the_text_for_cuda_computes_the_formula(form, tmp_path):
    program = None
    for rows, columns in ((1, 7), (65, 33), (129, 129)):
        ((made,), tensors) = layers_of(layer(form, rows, columns))
        if program is None:
            files, launches = kernel_sources("cuda", made.kernels)
            program = CudaOnHost(files["kernels.cu"], launches, tmp_path)
        for tokens, many in ((1, False), (7, False), (18, True)):
            x = representable(form, (tokens,), columns, many)
            memory = {
                "rows": tokens,
                "x": x,
                "y": np.full((tokens, rows), np.nan, np.float32),
                "q": np.empty(tokens * made.memory["q"], np.uint8),
                "s": np.empty(tokens * made.memory["s"], np.uint8),
            }
            for step in made.many if many else made.few:
                given = {
                    name: tensors[a["tensor"]] if isinstance(a, dict) else memory.get(a, a)
                    for name, a in step.arguments.items()
                }
                program.run(step.kernel, given)
            expected = (x @ weights(form, rows, columns)[-1].T).astype(np.float32)
            np.testing.assert_array_equal(expected, memory["y"])
