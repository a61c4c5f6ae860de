"""The servers. Each room is a process of its own; they meet only through protos."""
