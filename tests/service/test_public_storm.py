"""The storm for any server, on this one: it tells its clients what it must, without a fault."""

import httpx

from soak import public
from tests.support.serving import Service


async def test_this_service_stands_it(service: Service) -> None:
    async with httpx.AsyncClient(base_url=service.url, timeout=60) as http:
        storm = await public.run(http, seconds=1, streams=4, seed=0)
    rows = storm.rows()
    assert storm.counts["whole answers"] > 0
    assert {name: rows[name] for name in public.MUST_BE_ZERO} == dict.fromkeys(public.MUST_BE_ZERO, 0)
    assert rows["recovery"] == "nothing was broken"
