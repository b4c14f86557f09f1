"""The engine layer: everything that knows torch. Imports neither gradio nor studio."""
