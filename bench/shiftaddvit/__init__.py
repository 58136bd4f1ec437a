"""How fast ShiftAddViT is in ONNX Runtime, part by part: `python -m bench.shiftaddvit`."""
