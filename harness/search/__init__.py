"""Finding passages: files into chunks, chunks into a store, questions into ranked passages."""
