"""Checkpoint files -> networks on the CPU: where files are, what their keys mean, what they build."""
