"""Certificates: what was done to a model, step by step, and the checker that believes none of it.

`Certificate` and its `Step`s are what `optimize(verify=True)` writes, `replay` checks them on two
models. `Examiner` finds the evidence for one rewrite; `Numbering` and the encoders are what a
recorder of steps needs; `sides` makes models of the two sides of a rewrite. The checker shares no
code with the passes.
"""

from addax.ir.certificate._encoding import encode_attributes, encode_tensor
from addax.ir.certificate._evidence import Examiner, Finding
from addax.ir.certificate._numbering import Numbering
from addax.ir.certificate._replay import Replay, replay
from addax.ir.certificate._slices import sides
from addax.ir.certificate._steps import EVIDENCE, Certificate, Step

__all__ = [
    "EVIDENCE",
    "Certificate",
    "Examiner",
    "Finding",
    "Numbering",
    "Replay",
    "Step",
    "encode_attributes",
    "encode_tensor",
    "replay",
    "sides",
]
