"""What was answered? Entries with their checks and scores, corrections with a reason, drafts, signatures."""
