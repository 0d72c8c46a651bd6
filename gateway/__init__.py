"""Who answers: the OpenAI-compatible data plane and the OpenAI-compatible control endpoints."""
