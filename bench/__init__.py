"""Benchmarks: `python -m bench` measures evbridge's calls against an echo and a JSON API, and the codec."""
