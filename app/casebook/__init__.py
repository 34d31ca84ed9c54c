"""What is the casebook of a participant as a file? All that is kept of them, what changed in it, and the log behind."""

from app.casebook.book import casebook_of

__all__ = ["casebook_of"]
