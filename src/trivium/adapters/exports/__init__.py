"""Files for other software: a tower as ONNX graphs, examples in the formats of other trainers."""
