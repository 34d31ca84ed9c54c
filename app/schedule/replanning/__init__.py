"""What becomes of visits that are planned already when the plan changes."""
