"""Source verification: was an answer compared with its source, and what is still to be?"""
