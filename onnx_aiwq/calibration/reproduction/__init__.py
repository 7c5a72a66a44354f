"""The TO paper's experiment on this machine: networks, measurement, fits, and the paper's own table beside them.

Z. Li, A. Tsourdos, W. Guo: "Transistor Operations" (IEEE TAI 5(1), 2024). Importing this package needs no runtime.
"""
