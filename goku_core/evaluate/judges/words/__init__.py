"""Judges that ask a network in words: T2I-CompBench's attributes and actions, DPG-Bench's questions, VBench's scenes."""
