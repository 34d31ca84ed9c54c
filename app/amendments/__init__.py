"""Amendments: what a new version of the study means for those in it, and sites that go over to it on their day."""
