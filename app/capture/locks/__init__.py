"""What may not change any more? Frozen and locked data: of a participant, a visit, or the whole study."""
