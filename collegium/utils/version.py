"""The version, in a module of its own that every other can import."""

VERSION = "0.1.0"
