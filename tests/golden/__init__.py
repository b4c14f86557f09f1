"""Golden cases: numbers of the published reference implementations, and the product's own code on the same inputs."""
