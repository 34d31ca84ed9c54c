"""What does every room stand on? Database, clock, errors, paging, idempotency, crypto."""
