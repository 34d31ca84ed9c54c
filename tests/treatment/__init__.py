"""Treatment: what was delivered, and that it tells nobody else."""
