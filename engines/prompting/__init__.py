"""Richer prompts from plain ones."""
