"""For tests: of a domain, of a store, of a system under faults."""
