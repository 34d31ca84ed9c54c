"""What went otherwise than the protocol says? Reported by people and found by the system, acted on and signed."""
