"""How the NumPy judge works: programs compiled from graphs, and what each op means in NumPy."""
