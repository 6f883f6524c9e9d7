"""Pretrained networks that look at pictures, clips and sentences, and the finding of their weights.

Curation filters by them and evaluation judges by them: one port of each network, one rule of how weights are found, named
and read (`weights`).
"""
