"""DNS over HTTP: the transports https:// and grpc://.

`doh` has the rules of RFC 8484 without a version of HTTP. `http1` and `http2` drive the libraries
h11 and h2, which are imported when a block uses one of the transports.
"""
