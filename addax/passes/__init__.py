"""Rewrites: IR in, IR out. One family a file; `_family` finds them."""
