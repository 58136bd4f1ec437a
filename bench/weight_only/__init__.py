"""Weights of trained networks in few bits: the tasks, ways to round, and what they cost."""
