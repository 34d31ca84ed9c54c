"""Others' data: a file's columns are mapped to items, tried dry, and saved as a person would save them."""
