"""THE SEALED ROOM. Which arm is next? Nobody knows: sequence, sealing, allocation."""
