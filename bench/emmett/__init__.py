"""Emmett, on Node.js, as a peer: its programs, how they are installed, and how they are measured."""
