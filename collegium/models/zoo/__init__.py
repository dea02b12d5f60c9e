"""Network architectures of our own."""
