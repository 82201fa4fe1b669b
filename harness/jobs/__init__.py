"""Jobs: batches of requests that can be killed at any moment and go on where they stopped."""
