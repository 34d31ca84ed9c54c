"""Whom do we remind, of what, and when? Rules of the study, turned into messages in the outbox."""
