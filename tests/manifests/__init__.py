"""Manifests: the key names and shapes of published checkpoints, fed through the product's own converter."""
