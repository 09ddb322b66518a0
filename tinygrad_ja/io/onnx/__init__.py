"""ONNX files: models written to them and read from them. Loading this package does not load the package ``onnx``."""
