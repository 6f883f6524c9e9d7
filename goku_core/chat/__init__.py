"""Language models asked over HTTP, and what they have answered: for captions, and for prompts that are rewritten."""
