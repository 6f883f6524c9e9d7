"""GenEval's own judge: Mask2Former and CLIP."""
