"""What `addax.ir.numbers` is made of."""
