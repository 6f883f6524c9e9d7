"""What is measured on frames: shots, motion, text, sharpness and exposure, perceptual hash. One idea a file."""
