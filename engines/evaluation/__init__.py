"""Quality measures of the starter models, taken from pixels by plain code."""
