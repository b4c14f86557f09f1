"""Networks on devices: which devices there are, what is placed where, and for how long."""
