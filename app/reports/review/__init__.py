"""What of the log is worth a look since somebody last reviewed it, and who said what of it?"""
