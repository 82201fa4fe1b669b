"""Models behind one protocol: ``ollama`` (a daemon), ``embedded`` (llama.cpp in a child), ``remote`` (litellm)."""
