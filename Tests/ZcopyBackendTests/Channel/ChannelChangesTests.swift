import Testing
import ZcopyBackend

@Suite("The changes of one look at a link")
struct ChannelChangesTests {
  private typealias Changes = ExporterChannel.Changes

  @Test("are all reported, in their order")
  func order() {
    let all: Changes = [.mapped, .used(frame: 7), .released, .died]
    #expect(Array(all) == [.mapped, .used(frame: 7), .released, .died])
    #expect(all.count == 4 && all.first == .mapped && all.last == .died)
    let none: Changes = []
    #expect(none.isEmpty && Array(none) == [])
  }

  @Test("are the same only in the same order and number")
  func equality() {
    let changes: Changes = [.mapped, .died]
    for other in [[], [.mapped], [.died, .mapped], [.mapped, .died, .died]] as [Changes] {
      #expect(changes != other)
    }
    #expect(changes == [.mapped, .died])
    #expect("\(changes)" == "\([ExporterChannel.Change.mapped, .died])")
  }
}
