"""Drafts: study folders that people write in the browser, kept file by file until one is loaded as a version."""
