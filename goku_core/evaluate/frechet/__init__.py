"""Distances between two sets of samples: FID, sFID, Inception Score, precision and recall, KID, FVD, video IS.

The arithmetic needs no weights and no network; `measure.run` feeds it from a folder of pictures or clips.
"""
