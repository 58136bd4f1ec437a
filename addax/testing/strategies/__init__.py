"""Hypothesis strategies: arrays for tensors, and random graphs that are full of redexes."""
