from collections.abc import AsyncIterator

import pytest

from codeframe.client import Client
from tests.canned_lead import QUICK, CannedLead, serve


@pytest.fixture
def lead() -> CannedLead:
    return CannedLead()


@pytest.fixture
async def client(lead: CannedLead) -> AsyncIterator[Client]:
    async with serve(lead) as address, Client(address, policy=QUICK) as client:
        yield client
