"""What happened to a participant that should not have? Adverse events, how they were judged, and what runs for them."""
