"""Networks from elsewhere: timm, torchvision, hf, onnx (each an extra), and Python files."""
