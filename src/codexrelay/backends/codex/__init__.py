"""The OpenAI Codex backend: request headers, attempts, the model catalogue."""
