"""Was the allocation concealed? Who had to do with the list, who enrolled, and whether anybody did both."""
