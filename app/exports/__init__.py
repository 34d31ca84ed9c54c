"""Which tables leave the house, as which file, and who took them? Blinded by construction: arms are not known here."""
