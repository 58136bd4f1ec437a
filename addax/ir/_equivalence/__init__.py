"""What `addax.ir.equivalence` is made of: interfaces, randomness, drawn inputs."""
