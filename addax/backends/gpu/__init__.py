"""Kernels for GPUs: source text, how it is launched, and what a model needs of it."""
