"""The gateway-worker link: `worker.proto` and the stubs `make proto` generates from it."""
