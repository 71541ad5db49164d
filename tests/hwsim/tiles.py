"""Tiles told one by one, for the walks that tests hold the fast ones to."""

from hwsim.schedule.pipeline import Repeat


def unrolled(body):
    for item in body:
        if isinstance(item, Repeat):
            for _ in range(item.count):
                yield from unrolled(item.body)
        else:
            yield item
