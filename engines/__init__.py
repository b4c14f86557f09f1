"""The engine layer: everything that knows torch. Imports neither gradio nor studio."""

__version__ = "0.1.0"
