"""Benches: `python -m bench.NAME [--quick]` prints tables and, last, one line of JSON."""
