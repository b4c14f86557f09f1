"""The commands of the command line, one a module: `add` declares its flags, `run` does it and returns the exit code."""
