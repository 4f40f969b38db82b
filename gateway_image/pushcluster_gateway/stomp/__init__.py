"""The server side of STOMP 1.0, 1.1 and 1.2, without I/O: bytes in, requests out; frames in, bytes out.

Specifications: https://stomp.github.io/stomp-specification-1.0.html, -1.1.html, -1.2.html.
"""
