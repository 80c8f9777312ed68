"""Measurements that are run by hand; their figures stand in `benchmarks/README.md`."""
