"""Measurements on public data; see docs/benchmarks.md."""
