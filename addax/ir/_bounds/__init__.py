"""First-order forward error analysis; `addax.ir.tolerance` is the door."""
