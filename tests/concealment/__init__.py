"""Nobody learns an arm early: the promise, attacked."""
