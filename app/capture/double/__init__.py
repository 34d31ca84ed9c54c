"""Was this form entered rightly? The same paper entered by two people, compared, settled, and how far they agree."""
