"""Links that participants are given: for one purpose each, for a time, and to nobody but themselves."""
