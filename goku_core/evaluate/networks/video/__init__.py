"""Networks that look at a clip as a whole: ViCLIP (clip and sentence), UMT (action), AMT-S (the frame between two)."""
