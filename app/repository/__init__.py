"""What do the people of a study share? Folders and files of the study itself, sealed; none of a participant."""
