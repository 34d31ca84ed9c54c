"""What does the protocol say? A study is a folder of data: arms, eligibility, visit plan, instruments, consent."""
