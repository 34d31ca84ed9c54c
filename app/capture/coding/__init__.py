"""What does this text mean in terms of a dictionary? Coded by two people, each alone, settled by a third."""
