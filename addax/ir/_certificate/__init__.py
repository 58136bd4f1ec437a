"""What `addax.ir.certificate` is made of: numbers for values, JSON for nodes, the checker."""
