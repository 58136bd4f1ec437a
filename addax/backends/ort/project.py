"""A CMake project of the library of kernels, for a machine that has its own compiler: a phone."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from addax.backends.ort.sources import paths_of, sources
from addax.backends.target import Target

LIBRARY = "addax_kernels"


@dataclass(frozen=True)
class System:
    """How a library is built for an operating system and given to ONNX Runtime there.

    Attributes:
        build: The commands that build it, for a shell in the project's folder.
        register: The line of a program that gives it to the options of a session.
        static: Whether it is linked into the application.
    """

    build: str
    register: str
    static: bool = False


_ANDROID = System(
    "cmake -B build -DANDROID_ABI=arm64-v8a -DANDROID_PLATFORM=android-24 \\\n"
    "    -DCMAKE_TOOLCHAIN_FILE=$ANDROID_NDK/build/cmake/android.toolchain.cmake\n"
    "cmake --build build",
    f'options.registerCustomOpLibrary("lib{LIBRARY}.so")  // Java, Kotlin; the file goes to '
    "jniLibs/arm64-v8a",
)
_IOS = System(
    "cmake -B build -G Xcode -DCMAKE_SYSTEM_NAME=iOS -DCMAKE_OSX_ARCHITECTURES=arm64 \\\n"
    "    -DCMAKE_OSX_DEPLOYMENT_TARGET=13.0\n"
    "cmake --build build --config Release",
    "[options registerCustomOpsUsingFunctionPointer:&RegisterCustomOps error:&error];  "
    "// Objective-C; link the archive",
    static=True,
)
_LINUX_ARM64 = System(
    "cmake -B build  # on such a machine; from another one, add:\n"
    "#   -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 \\\n"
    "#   -DCMAKE_C_COMPILER=aarch64-linux-gnu-gcc\n"
    "cmake --build build",
    f'options.RegisterCustomOpsLibrary("lib{LIBRARY}.so");  // C++; in Python '
    "register_custom_ops_library",
)
_LINUX_X86 = System(
    "cmake -B build\ncmake --build build",
    _LINUX_ARM64.register,
)

SYSTEMS: Mapping[str, System] = {
    "android-arm64": _ANDROID,
    "ios-arm64": _IOS,
    "linux-arm64": _LINUX_ARM64,
    "linux-x86_64": _LINUX_X86,
}
_PROCESSORS = {"arm64": "aarch64|arm64|ARM64", "x86_64": "x86_64|AMD64|amd64"}


def project(target: Target) -> dict[str, str]:
    """The text files of the project by name; beside them belong the objects `avx512.o`, ...

    Args:
        target: One of `SYSTEMS`.
    """
    files = sources(paths_of(target))
    return files | {"CMakeLists.txt": _cmake(target, files)}


def readme(target: Target, model: str) -> str:
    """What the folder is and how to use it.

    Args:
        target: One of `SYSTEMS`.
        model: The name of the model's file in ORT format; "" if it is not there.
    """
    system = SYSTEMS[target.name]
    sets = ", ".join(f"`{isa.name}`" for isa in target.sets)
    kind = "static" if system.static else "shared"
    minimal = (
        f"A minimal build of ONNX Runtime (`build.sh --minimal_build custom_ops`) loads `{model}`; "
        "add `--include_ops_by_config` with the `.config` file here for the operators that it "
        "needs."
        if model
        else "There is no model in ORT format, which minimal builds of ONNX Runtime need: the "
        "library that converts it could not be built on the machine that wrote this folder."
    )
    return f"""# Kernels for {target.name}

Machine code for {sets} and the C sources that give it to ONNX Runtime 1.18 or later. The library
takes the first of these instruction sets that the processor has. Build the {kind} library:

```sh
{system.build}
```

Before the session is made:

```
{system.register}
```

The model beside this folder (`.onnx`) runs in any full package of ONNX Runtime, with the library
fast, without it through standard operators. {minimal}
"""


def _cmake(target: Target, files: Iterable[str]) -> str:
    system = SYSTEMS[target.name]
    commands = "\n".join(f"#   {line}" for line in system.build.splitlines())
    objects = " ".join(f"{isa.name}.o" for isa in target.sets)
    code = " ".join(sorted(file for file in files if file.endswith(".c")))
    processor = _PROCESSORS[target.name.partition("-")[2]]
    return f"""\
# The kernels of addax for {target.name}: a library of custom ops for ONNX Runtime.
#
{commands}

cmake_minimum_required(VERSION 3.16)
project({LIBRARY} C)

# ON: an archive to link into the application, which passes the function RegisterCustomOps on.
option(ADDAX_STATIC "Build a static library" {"ON" if system.static else "OFF"})

if(CMAKE_SYSTEM_PROCESSOR AND NOT CMAKE_SYSTEM_NAME STREQUAL "iOS"
   AND NOT CMAKE_SYSTEM_PROCESSOR MATCHES "^({processor})$")
    message(FATAL_ERROR "expected a compiler for {target.name}, got one for \
${{CMAKE_SYSTEM_PROCESSOR}}: pass the toolchain as the top of this file says")
endif()
if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
    set(CMAKE_BUILD_TYPE Release)
endif()
if(ADDAX_STATIC)
    set(kind STATIC)
else()
    set(kind SHARED)
endif()

set(objects {objects})
add_library({LIBRARY} ${{kind}} {code} ${{objects}})
set_source_files_properties(${{objects}} PROPERTIES EXTERNAL_OBJECT ON)
set_target_properties({LIBRARY} PROPERTIES
    C_STANDARD 11 C_EXTENSIONS ON C_VISIBILITY_PRESET hidden POSITION_INDEPENDENT_CODE ON)
if(UNIX AND NOT APPLE)
    target_link_libraries({LIBRARY} PRIVATE m)
endif()
if(ANDROID)
    target_link_options({LIBRARY} PRIVATE -Wl,-z,max-page-size=16384)
endif()
"""
