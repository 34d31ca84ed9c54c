"""How did participants go through the trial, arm by arm, and who is in which analysis? A closed report."""
