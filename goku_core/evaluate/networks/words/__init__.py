"""Networks that answer questions about a picture or describe it: BLIP-VQA, mPLUG and Tag2Text, and what they share."""
