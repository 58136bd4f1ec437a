"""Linear layers on integers: quantizers of activations, weights of few bits, the nodes."""
