"""Which kept clips resemble one another, and which of them stay: by what is seen (`near`) and by meaning (`semantic`)."""

LOOKS_LIKE = "looks like "  # begins the message; the clip that stays follows
