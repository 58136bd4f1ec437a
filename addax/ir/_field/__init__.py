"""How graphs are evaluated over a finite field: elements, oracles, what each op means there."""
