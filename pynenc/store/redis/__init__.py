"""The Redis store: one server, Redis 6.2 or newer or Valkey, and processes on any number of machines.

Theory of operation
-------------------
Every operation is one Lua script (``lua/``), so it happens entirely and alone, in one round trip for a batch. A script does not roll back: it looks at
everything that could refuse before it writes. ``scripts`` puts the scripts together, ``link`` sends them, ``codec`` says what rows look like. The
common way of a call, submitted → claimed → final with neither key nor rate, touches few keys and is written for many rows at once
(``submit.lua``, ``claim_usual.lua``, ``finish.lua``); everything else is ``life.lua``, which works on one row after the other.

All keys of an app begin with ``pynenc:{app_id}:``; what stands in braces is the hash tag of a cluster, so they lie in one slot.

=======================  =======  =============================================================================================================
key                      kind     holds
=======================  =======  =============================================================================================================
``call``                 hash     id → what was submitted
``row``                  hash     id → what became of it; nothing as long as it is READY and was never claimed
``hist:<id>``            list     changes of status that do not follow from the row: of earlier attempts
``progress``             hash     id → what its body reported
``seq``                  number   submissions so far
``order:<block>``        list     ids by submission, 512 a block; ``blocks`` lists the blocks, ``removed`` counts what is gone of each
``queues``               hash     name → state; ``drains`` names the draining; ``tally`` counts rows by status, queue and task, ``parked`` by queue
``q:<queue>:p``          zset     READY rows of neither rank nor boost, by submission
``q:<queue>:r``, ``:a``  zset     the other READY rows, by rank, boost and submission; and by submission alone
``s:<queue>:…``          zset     the same for suspects; ``t:…`` for what somebody passed over, whose tasks are in ``T:<queue>``
``later:<queue>``        zset     LATER rows by time; ``asleep:<queue>`` PAUSED ones that have a time
``own:<runner>``         set      what a runner has claimed; ``orders:<runner>`` what of that shall stop
``hold:<key>``           set      who holds a running key; ``use:<key>`` who is claimed and names it; ``park:<key>`` (zset) who waits for it
``heads``                hash     rate key → who goes next; ``turn:<key>`` (zset) who waits, ``rate:<key>`` (list) and ``period:<key>`` the latest claims
``unknown:<task>``       set      what waits for a runner that knows the task; ``unknown`` lists the tasks
``reg``                  hash     registration key → holder; ``cache:<key>`` (zset) successes under a cache key
``awaits:<id>``          set      what an invocation waits for; ``waiters:<id>`` who waits for it; ``knots`` all with either, ``sleepers`` those suspended
``expiring``             zset     what was never claimed and may expire, by its time
``gone``                 zset     finals by the end of their time of life, or later when their workflow went on then
``val:<scope>``          hash     remembered values; ``scopes`` (set) has the owners of scopes, ``scopes:<owner>`` (set) those of their scopes with a slash
``reactions``            hash     status and task → who reacts to it, and how; ``reactors`` what each owner reacts to
``blob``                 hash     key → data; ``refs`` counts references, ``unused`` (zset) has those of none by time
``runners``              hash     id → lease; ``beats`` and ``tasks`` what it said; ``dying`` those that are taken back; ``gone_runners`` those refused
``dead``                 hash     groups whose death is certain
``leases``               hash     leadership of chores
``idle``, ``ties``       hash     who wants to be woken, see ``bell``; the channels are ``c:<client>`` and ``all``
``version``              number   of this layout (``safety``); pynenc of version N and N+1 share a layout or say that they do not know it
=======================  =======  =============================================================================================================

Time is that of the server (``TIME``), for leases as well, unless a test brings its own clock.
"""

from pynenc.store.redis.store import RedisStore

__all__ = ["RedisStore"]
