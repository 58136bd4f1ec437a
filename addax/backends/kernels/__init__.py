"""Kernel bodies: one op a file, written in the vocabulary of whatever target builds it."""
