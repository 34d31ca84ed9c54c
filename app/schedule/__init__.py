"""When is what due? Visits with their windows, counted in the site's own calendar."""
