"""Judges of whole clips: ViCLIP (style in time, agreement with the prompt), UMT (the action), AMT-S (smoothness of motion)."""
