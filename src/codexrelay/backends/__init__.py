"""What is spoken to upstream: `codex`, `openai` (any OpenAI-compatible API), and `transports`."""
