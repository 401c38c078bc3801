"""Any OpenAI-compatible backend. Still empty: mixed sessions are built on it."""
