// Its callers pass sockets by the type that owns them.
@_exported public import Support
