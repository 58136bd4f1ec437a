"""The application that commands join, and the options that they share."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from addax.errors import InputError

if TYPE_CHECKING:
    import numpy as np  # `addax --help` answers at once: commands load what they need

app = typer.Typer(
    help="A compiler that chops the multiplications out of neural networks.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

ModelPath = Annotated[Path, typer.Argument(help="An ONNX file.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Data = Annotated[
    Path | None,
    typer.Option("--data", help="Inputs: an .npz file, an array for each; drawn if absent."),
]
Check = Annotated[
    str | None,
    typer.Option(
        help="A command that gets the path of a model and fails where the fault is, instead of "
        "comparing outputs."
    ),
]
PipelineText = Annotated[
    str | None, typer.Option(help="Exactly what runs, such as cleanup,fold-affine.")
]

_BATCH = 32  # samples run at once


def read_batches(path: Path | None) -> "list[dict[str, np.ndarray]] | None":
    """The samples of an .npz file in batches; None without a path.

    Raises:
        InputError: It is no such file, or its arrays have different numbers of samples.
    """
    feeds = read_feeds(path)
    if feeds is None:
        return None
    counts = {name: len(array) if array.ndim else 0 for name, array in feeds.items()}
    if len(set(counts.values())) != 1:
        raise InputError(
            f"expected arrays with as many samples each, the first axis, in {str(path)!r}; got "
            f"{counts}"
        )
    count = next(iter(counts.values()))
    return [
        {name: array[start : start + _BATCH] for name, array in feeds.items()}
        for start in range(0, count, _BATCH)
    ]


def read_feeds(path: Path | None) -> "dict[str, np.ndarray] | None":
    """The arrays of an .npz file by name; None without a path.

    Raises:
        InputError: It is no such file.
    """
    if path is None:
        return None
    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, AttributeError, EOFError) as error:
        raise InputError(
            f"expected an .npz file with an array for each input (numpy.savez writes one), got "
            f"{str(path)!r}: {error}"
        ) from error
