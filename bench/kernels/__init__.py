"""Kernels of the dialect in ONNX Runtime against its own matmuls: `python -m bench.kernels`."""
