"""What must somebody be told? The outbox: queued in the same transaction, sent after."""
