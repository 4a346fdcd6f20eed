"""A stand-in for the Messages API on loopback: for trying the bridge, for front-end work, for tests.

A process of its own (`python -m bridge.simulator`) that outlives the bridge, so it imports nothing of it.
`script` decides what to answer, `messages` says it in the API's words, `server` owns the sockets.
"""
