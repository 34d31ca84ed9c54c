"""Who learnt an arm before the end, when and why? Emergency, planned and accidental unblinding; never which arm."""
