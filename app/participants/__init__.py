"""Who takes part? Screening and eligibility, sealed personal data, status."""
