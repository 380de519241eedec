"""A transformer over the history in its order, exported for serving as an ONNX graph."""
