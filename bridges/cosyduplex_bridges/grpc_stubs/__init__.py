"""What goes over the wire of the gRPC doors; `make proto` generates the modules."""
