"""What do participants answer by a link of their own? Given by hand or by rule, reminded of, sent, opened, answered."""
