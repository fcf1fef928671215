import DmaBuf
import Glibc
import SystemPackage
import XenSimulator

@testable import ZcopyBackend

/// What a process leaves to its successor: its encoded state, and duplicates of its descriptors, as
/// in systemd's store. Descriptors that are not taken are closed.
final class Inheritance<State: LiveUpdateState> {
  let state: State
  private var descriptors: [FileDescriptor]

  init(_ saveState: LiveUpdate<State>) throws {
    state = try State(decoding: saveState.state.encoded)
    descriptors = []
    for file in saveState.descriptors {
      // Without close-on-exec, as after an exec, or from systemd.
      descriptors.append(try file.duplicate())
    }
  }

  deinit { for file in descriptors { try? file.close() } }

  /// Closes the descriptors, as the store does.
  func close() { _ = take() }

  /// The descriptors.
  func take() -> OwnedDescriptors {
    defer { descriptors = [] }
    return OwnedDescriptors(descriptors)
  }
}
