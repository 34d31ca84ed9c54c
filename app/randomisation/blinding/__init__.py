"""Did the blind hold? Guesses of the arm, held against the arms once the trial is over: a closed report."""
