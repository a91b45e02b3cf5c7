"""What happens to calls when their workers are killed with ``kill -9``: this library and others, one after the other, under the same harm.

Two workers of a contender, as it comes, work on an empty store. A client submits calls in portions; after each the worker that
began the last body is killed together with all that it started, in the middle of its work, and started again half a second later, as a
service manager does. Then everybody waits until each call has a result, until the library holds no call any more that it could run,
or until nothing has happened for a while.

Bodies say when they begin and when they end, not through the library (:mod:`~benchmarks.killed.witness`); what the library says
of each call (:class:`~benchmarks.killed.contender.Fate`) is compared with that (:mod:`~benchmarks.killed.storm`).
"""
