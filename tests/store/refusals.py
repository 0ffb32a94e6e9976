"""How a store refuses to be opened."""

import pytest

from rehydrate.errors import ConfigurationError
from rehydrate.store.url import open_store


async def refused(url: str) -> str:
    """The sentence with which a URL is refused."""
    with pytest.raises(ConfigurationError) as error:
        await open_store(url)
    return str(error.value)
