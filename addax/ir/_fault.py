"""One breach of well-formedness, as data."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault of a graph: what kind, in which scope, and a sentence that names the node or value.

    `kind` is one of the words that `addax.ir.verify` lists; `where` is `main graph`, a
    function, or the path of a subgraph: `main graph > If 'n' then_branch`.
    """

    kind: str
    where: str
    message: str

    def __str__(self) -> str:
        return f"{self.where}: {self.message} [{self.kind}]"
