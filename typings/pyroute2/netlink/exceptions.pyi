# Only what corepy uses.
class NetlinkError(Exception):
    code: int
