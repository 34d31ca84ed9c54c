"""What is true of these? Filled in below."""
