"""What `addax.ir.affine` is made of."""
