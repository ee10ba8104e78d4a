"""Export to ONNX, and networks that onnxruntime runs."""
