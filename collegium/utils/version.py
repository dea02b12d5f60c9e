"""The version, on its own, so that every module can say it."""

VERSION = "0.1.0"
