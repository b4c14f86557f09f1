"""Quality measures taken from pixels by plain code: of the starter models, and of any clip."""
