"""Features of layers: finding, reading, pairing and pooling them."""
