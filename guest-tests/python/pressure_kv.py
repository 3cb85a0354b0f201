# SPDX-License-Identifier: GPL-2.0-only
"""pressure/kv: a store of 1.25 times its memory limit is written and read at random.

It does not measure speed. Bugs it would catch: a page that comes back from swap is another's,
an old one, or half of one; a write to a page in the swap cache is forgotten at the next reclaim.
"""

import guest
from records import RECORD, Chance, Store

LIMIT = 12 << 20
RECORDS = LIMIT // RECORD * 5 // 4
OPERATIONS = 4000


def work(store: Store, versions: list[int], chance: Chance) -> int:
    """Half of the operations change a record; returns how many gets were not what was put."""
    wrong = 0
    for operation in range(OPERATIONS):
        index = chance.below(store.records)
        # Every other change is a read, then a write: the page is mapped read-only in between
        if operation % 4 != 0:
            wrong += store.get(index) != versions[index]
        if operation % 2 == 0:
            versions[index] += 1
            change = store.renew if operation % 8 < 4 else store.put
            change(index, versions[index])
    return wrong


def case() -> None:
    guest.plan(1)
    if guest.swap_kind() == "none":
        raise guest.Skip("needs swap")
    versions = [0] * RECORDS
    chance = Chance(guest.seed())
    store = Store(RECORDS, guest.seed())
    guest.enter_memcg(LIMIT)
    for index in range(RECORDS):
        store.put(index, 0)
    out = guest.count_swapped(store.address, RECORDS)
    guest.proof("swapped_out", out >= RECORDS // 5, f"{out} of {RECORDS} pages after the filling")
    traffic = guest.SwapTraffic()
    wrong = work(store, versions, chance)
    wrong += sum(store.get(index) != versions[index] for index in range(RECORDS))
    came_in = traffic.swap_ins()
    traffic.measure()
    guest.proof("swapped_in", came_in >= RECORDS // 5, f"{came_in} pages")
    guest.verdict("data_intact", not wrong, f"{wrong} reads were not what was last written")


guest.run(case)
