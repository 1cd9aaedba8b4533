"""ravecodec: a neural audio codec built on RAVE (Caillon & Esling 2021), with a command line and its own file format.

Three rooms: `ravecodec.bitstream` (bytes <-> integers), `ravecodec.models` (tensors <-> tensors) and this package, which joins them.
Importing it is cheap: torch is loaded by the modules that need it, never here.
"""

__version__ = "0.1.0"
