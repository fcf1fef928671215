/// A structure of the protocol whose stored properties have the layout of the C structure.
/// `StructureTests` compares the two, property by property.
package protocol WireStructure: BitwiseCopyable, Sendable {
  associatedtype C
  init()
}

extension WireStructure {
  package init(_ c: C) {
    self.init()
    self.c = c
  }

  /// The C structure.
  package var c: C {
    // SAFETY: both have the same layout, without padding, and are valid for any bits.
    get { unsafe unsafeBitCast(self, to: C.self) }
    set { self = unsafe unsafeBitCast(newValue, to: Self.self) }
  }
}
