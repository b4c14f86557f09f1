"""Pyramid Flow: long videos made unit by unit, each unit through three resolutions (arXiv 2410.05954)."""
