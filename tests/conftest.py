"""What holds for every test."""

import os

# Read when torch is loaded: threads that spin while they wait slow everything else on a machine of few cores.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
