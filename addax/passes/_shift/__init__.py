"""How linear layers become codes: where they are, how they are fitted, what takes their place."""
