"""Training BindWeave, small and full: its pictures, what its multimodal model reads, its objective."""
