"""What happened to participants, and what went otherwise than planned? Blinded: events, clocks, deviations, logs."""
