"""What the pipeline has to do with DVC and git, which carry versions of data from one clone to another.

cache   where DVC keeps the bytes of an output
beside  the small files beside the outputs of a cell: its record, its numbers, its curves
turns   DVC takes outputs away before it asks for them, so it drives the line alone
sources what lies outside of the line and is read by it
"""
