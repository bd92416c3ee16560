"""Files for other software: ONNX graphs of a tower, and examples in the formats of other trainers."""
