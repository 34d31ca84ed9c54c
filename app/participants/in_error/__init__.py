"""Who was randomised and should not have been, or not so? Recorded, never erased: the allocation stands."""
