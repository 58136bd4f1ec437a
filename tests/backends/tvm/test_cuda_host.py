"""The text of the CUDA kernels computes the formula, run as C++ by threads of this processor."""

import pytest

pytest.importorskip("tvm", reason="source is written by TVM, which is not installed")

from tests.backends.ort.libraries import FORMS
from tests.backends.tvm.cuda_host import CudaOnHost, compiler
from tests.backends.tvm.layers import check

QUICK = ("codebook4", "int8")
CASES = [pytest.param(f, marks=() if f in QUICK else pytest.mark.slow) for f in FORMS]


@pytest.mark.skipif(compiler() is None, reason="there is no C++ compiler")
@pytest.mark.parametrize("form", CASES)
def test_the_text_for_cuda_computes_the_formula(form, tmp_path):
    check("cuda", form, lambda files, launches: CudaOnHost(files, launches, tmp_path))
