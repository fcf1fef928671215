// Whoever has a mapping has its memory too.
@_exported public import Support
