"""Benchmarks: `python -m bench` measures GetCompany against an echo, and the codec against protobuf's own JSON."""
