"""Source for GPUs: what is declared is what is described; CUDA goes through NVIDIA's compiler."""

import functools
import re

import pytest

pytest.importorskip("tvm", reason="source is written by TVM, which is not installed")

from addax.backends.gpu.languages import LANGUAGES
from addax.backends.tvm.sources import kernel_sources
from addax.errors import MissingPackageError
from addax.runtime.cuda import ptx_of

ALL = (
    "quantize",
    "tables",
    "int8",
    *(f"codebook{bits}_{rows}" for bits in (4, 2) for rows in ("few", "many")),
    *(f"binary{planes}_{rows}" for planes in (1, 2, 3, 4) for rows in ("few", "many")),
)
KERNELS = ("quantize", "tables", "int8", "codebook4_few", "codebook2_many", "binary2_few")


@functools.cache
def sources(language: str):
    """Some of the kernels: writing all of them takes seconds."""
    return kernel_sources(language, KERNELS)


def pieces(language: str) -> dict[str, str]:
    """The text of each kernel by its entry point."""
    files, launches = sources(language)
    made = {}
    for launch in launches.values():
        text = files[LANGUAGES[language].file_of(launch.name)]
        after = text[re.search(rf"\b{launch.name}\(", text).start() :]
        made[launch.name] = text if len(files) > 1 else after
    return made


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_kernel_is_there_once_and_braces_are_balanced(language):
    files, launches = sources(language)
    assert set(KERNELS) == set(launches)
    entry = {
        "cuda": r'extern "C" __global__ void __launch_bounds__\((?:32|64)\) (\w+)\([^;{]*\) \{',
        "metal": r"kernel void (\w+)\(",
        "opencl": r"__kernel void (\w+)\([^;{]*\) \{",
        "webgpu": r"@compute @workgroup_size\((?:32|64), 1, 1\)\nfn (\w+)\(",
    }
    found = [name for text in files.values() for name in re.findall(entry[language], text)]
    assert sorted(f"addax_{name}" for name in KERNELS) == sorted(found)
    for text in files.values():
        for left, right in ("{}", "()", "[]"):
            assert text.count(left) == text.count(right)


@pytest.mark.parametrize("language", ["cuda", "opencl"])
def test_parameters_of_c_are_in_the_order_that_is_described(language):
    _, launches = sources(language)
    for launch in launches.values():
        (text,) = set(re.findall(rf"{launch.name}\(([^)]*)\)", pieces(language)[launch.name]))
        declared = {}
        for parameter in text.split(", "):
            kind = "float32" if "float" in parameter else "int32"
            declared[parameter.split()[-1]] = kind + "*" * parameter.count("*")
        assert list(launch.parameters.items()) == list(declared.items())


def test_buffers_and_numbers_of_metal_are_in_the_order_that_is_described():
    _, launches = sources("metal")
    for name, text in pieces("metal").items():
        launch = next(one for one in launches.values() if one.name == name)
        buffers = re.findall(r"device (int|float)\* (\w+) \[\[ buffer\((\d+)\) \]\]", text)
        numbers = re.findall(r"^  int (\w+)\[2\];", text, re.MULTILINE)
        assert [*map(str, range(len(buffers)))] == [place for _, _, place in buffers]
        declared = {key: f"{kind}32*" for kind, key, _ in buffers} | dict.fromkeys(numbers, "int32")
        assert list(launch.parameters.items()) == list(declared.items())
        assert f"arg [[ buffer({len(buffers)}) ]]" in text


def test_bindings_and_numbers_of_wgsl_are_in_the_order_that_is_described():
    _, launches = sources("webgpu")
    for name, text in pieces("webgpu").items():
        launch = next(one for one in launches.values() if one.name == name)
        found = re.findall(r"@binding\((\d+)\) var<storage, \w+> (\w+) : array<([if]32)>", text)
        assert [*map(str, range(len(found)))] == [place for place, _, _ in found]
        kinds = {"i32": "int32", "f32": "float32"}
        declared = {key: f"{kinds[kind]}*" for _, key, kind in found}
        (numbers,) = re.findall(r"struct PODArgs \{([^}]*)\}", text)
        *named, last = re.findall(r"(\w+): (\w+)", numbers)
        assert ("packGridDimX", "u32") == last
        declared |= {key: kinds[kind] for key, kind in named}
        assert list(launch.parameters.items()) == list(declared.items())
        assert f"@binding({len(found)}) var<uniform> podArgs : PODArgs;" in text


@pytest.mark.parametrize("language", LANGUAGES)
def test_only_words_and_floats_of_32_bits_occur(language):
    wide = r"\b(double|int64_t|long|half|char|short|int8_t|uint8_t|[iu](?:8|16|64)|f16|f64)\b"
    for text in sources(language)[0].values():
        assert [] == re.findall(wide, text)


@pytest.mark.slow
@pytest.mark.parametrize("language", LANGUAGES)
def test_a_language_has_every_kernel(language):
    files, launches = kernel_sources(language)
    assert set(ALL) == set(launches)
    assert {LANGUAGES[language].file_of(one.name) for one in launches.values()} == set(files)


@pytest.mark.parametrize("language", LANGUAGES)
def test_memory_of_a_block_is_as_described(language):
    marks = {
        "cuda": r"__shared__ (?:alignas\(\d+\) )?int \w+\[(\d+)\]",
        "metal": r"threadgroup int \w+\[(\d+)\]",
        "opencl": r"__local int \w+\[(\d+)\]",
        "webgpu": r"var<workgroup> \w+ : array<i32, (\d+)>",
    }
    files, launches = sources(language)
    declared = sorted(4 * int(n) for t in files.values() for n in re.findall(marks[language], t))
    assert sorted(one.shared for one in launches.values() if one.shared) == declared


def test_only_the_kernels_that_are_asked_for_are_written():
    files, launches = kernel_sources("webgpu", {"int8", "quantize"})
    assert {"addax_int8.wgsl", "addax_quantize.wgsl"} == set(files)
    assert {"int8", "quantize"} == set(launches)


@pytest.mark.parametrize("kernels", [KERNELS, pytest.param(ALL, marks=pytest.mark.slow)])
def test_nvidias_compiler_takes_the_cuda_text(kernels):
    (text,) = kernel_sources("cuda", kernels)[0].values()
    try:
        ptx = ptx_of(text, "75").decode()
    except MissingPackageError:
        pytest.skip("NVRTC is not installed: pip install addax[gpu-tests]")
    entries = re.findall(r"\.visible \.entry (\w+)\(", ptx)
    assert sorted(f"addax_{name}" for name in kernels) == sorted(entries)
