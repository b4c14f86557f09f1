"""BindWeave: a multimodal model reads prompt and pictures together, on the image-to-video transformer of Wan 2.1."""
