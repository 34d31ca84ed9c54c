"""Programs elsewhere that are told of changes: that something changed and where it is read, never what it says."""
