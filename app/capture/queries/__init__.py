"""Which answers are in question? Raised by a check, a monitor or a data manager; answered, asked again, closed."""
