"""Finding what broke: which rewrite, on how small a model, and how to see it again.

`bisect` names the rewrite after which a fault appears, `reduce` shrinks a model while the fault
stays. A fault is anything that can be asked of a model: `Differs`, `Crashes`, `Fails`.
"""

from addax.debugging.bisect import Culprit, bisect
from addax.debugging.faults import Crashes, Differs, Fails, Fault
from addax.debugging.reduce import Reduced, reduce

__all__ = ["Crashes", "Culprit", "Differs", "Fails", "Fault", "Reduced", "bisect", "reduce"]
