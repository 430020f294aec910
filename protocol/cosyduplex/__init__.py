"""CosyDuplex: the `duplex.v1` protocol and its Python client."""

__version__ = "0.1.0"
