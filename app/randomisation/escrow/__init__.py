"""Who keeps the seed besides this installation? The statistician, encrypted to a public key of theirs.

Whoever holds the private key can predict every slot of the list: it belongs into a safe, away from who enrols.
"""
