"""A process that makes clips: one device, one job at a time, events out."""
