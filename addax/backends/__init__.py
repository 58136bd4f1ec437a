"""IR in, code out: ONNX for ONNX Runtime, torch modules, TVM."""
