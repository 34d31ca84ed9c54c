"""How fast is it, next to a bare commit of the same database? Run by hand: python -m benchmarks.run."""
