"""Safety, tried in its room: events and their clocks, deviations, logs."""
