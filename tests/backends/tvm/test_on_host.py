"""The CUDA and Metal kernels compute the formula, run as C++ by threads of this processor."""

import pytest

pytest.importorskip("tvm", reason="source is written by TVM, which is not installed")

from tests.backends.ort.libraries import FORMS
from tests.backends.tvm.host import OnHost, compiler
from tests.backends.tvm.layers import check

QUICK = [("cuda", "codebook4"), ("cuda", "int8"), ("metal", "codebook2")]
CASES = [
    pytest.param(language, form, marks=() if (language, form) in QUICK else pytest.mark.slow)
    for language in ("cuda", "metal")
    for form in FORMS
]


@pytest.mark.skipif(compiler() is None, reason="there is no C++ compiler")
@pytest.mark.parametrize(("language", "form"), CASES)
def test_the_text_computes_the_formula(language, form, tmp_path):
    check(language, form, lambda files, launches: OnHost(language, files, launches, tmp_path))
