"""What else is written down of a participant? Contacts, concomitant care; being lost, found again, or dead."""
