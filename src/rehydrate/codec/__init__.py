"""How events become bytes and come back."""
