"""Networks of other libraries, each family an extra of the package: timm, torchvision, hf, onnx."""
