"""The page: everything that knows gradio's components and events."""
