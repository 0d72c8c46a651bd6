"""The gateway beside its peers: CPU a request and a stream, added latency and memory, in one run on one machine."""
