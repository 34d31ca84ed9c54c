"""Reports: how a trial goes, in numbers alone, by site and never by arm."""
