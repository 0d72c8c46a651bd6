"""The relay: bytes from a client to an upstream and back, kept, timed and bounded; drawn in docs/relay.md."""
