"""OpenAI's Responses API, without a store: each request brings all that it needs."""
