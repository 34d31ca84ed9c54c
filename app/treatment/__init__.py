"""UNBLINDED. What was delivered, session by session, by treating clinicians?"""
