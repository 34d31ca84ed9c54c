"""What is all that was recorded of one participant, and who stands for it? The signature of a whole casebook."""
