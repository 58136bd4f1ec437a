"""Targets: what instructions there are, and which kernel serves which op."""
