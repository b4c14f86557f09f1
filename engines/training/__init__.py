"""Trainer, procedural world and recipes of the starter models."""
