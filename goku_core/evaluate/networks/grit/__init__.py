"""GRiT-B (arXiv 2212.00280): finds things and says what each is, as a class name or as a sentence. torch only."""
