// A client that has a mapping also needs the type of its memory.
@_exported public import Support
