"""Benchmarks of this project against named peers on the same work in the same run."""
