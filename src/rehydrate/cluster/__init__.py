"""WHO owns a stream where there are several nodes."""
