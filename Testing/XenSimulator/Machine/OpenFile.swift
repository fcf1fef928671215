import CZcopy
import SystemPackage
import XenGrant

#if canImport(Glibc)
  import Glibc
#endif

/// The kind of a simulated Xen device. Its descriptors may be duplicated, and may outlive a
/// process.
enum DeviceKind: Sendable {
  case grantDevice, grantAllocator, eventChannels
}

/// A process's descriptor of a device, as the machine knows it.
struct DeviceDescriptor: Sendable {
  let process: Int
  let device: HandleID
  /// Nil until its number is requested.
  var number: DescriptorNumber?
}

/// A real descriptor that is closed with the last reference to this object.
final class DescriptorNumber: Sendable {
  let rawValue: Int32

  init(_ rawValue: Int32) { self.rawValue = rawValue }

  /// A duplicate of a descriptor.
  convenience init(duplicating file: Int32) throws(Errno) {
    let copy = fcntl(file, F_DUPFD_CLOEXEC, 0)
    guard copy >= 0 else { throw Errno(rawValue: errno) }
    self.init(copy)
  }

  deinit { close(rawValue) }

  /// Closes the file, like the exit of a process. The number stays in use for a file that is never
  /// readable, so that it is not reused while it is still referenced.
  func detach() {
    let nothing = czcopy_epoll_create()
    guard nothing >= 0 else { return }
    if dup2(nothing, rawValue) >= 0 { _ = fcntl(rawValue, F_SETFD, FD_CLOEXEC) }
    close(nothing)
  }
}

extension MachineState {
  /// Opens a descriptor of a device for a process.
  mutating func openDescriptor(
    of device: HandleID, process: Int, _ number: DescriptorNumber? = nil
  ) -> Int {
    let descriptor = makeID()
    descriptors[descriptor] = DeviceDescriptor(process: process, device: device, number: number)
    return descriptor
  }

  /// The real descriptor of a process's descriptor, made on first use.
  mutating func number(ofDescriptor descriptor: Int) throws(Errno) -> DescriptorNumber {
    guard let known = descriptors[descriptor] else { throw .badFileDescriptor }
    if let number = known.number { return number }
    let made = try WatchedFile.make("xen-device", byteCount: 0)
    let number = DescriptorNumber(made.descriptor)
    grantDevices[known.device]?.file = made.file
    allocators[known.device]?.file = made.file
    descriptors[descriptor]?.number = number
    return number
  }

  /// Opens one more descriptor of the device behind a descriptor that was handed over.
  ///
  /// - Throws: EBADF if it is not open, EINVAL if it is no such device of that domain.
  mutating func adopt(
    _ file: Int32, as kind: DeviceKind, process: Int, of domain: DomainNumber
  ) throws(Errno) -> (device: HandleID, descriptor: Int) {
    let identity = try FileIdentity.read(file).identity
    let device: HandleID? =
      switch kind {
      case .grantDevice:
        grantDevices.first {
          $0.value.file?.identity == identity && Int($0.value.domain.rawValue) == domain
        }?.key
      case .grantAllocator:
        allocators.first {
          $0.value.file?.identity == identity && Int($0.value.domain.rawValue) == domain
        }?.key
      case .eventChannels:
        eventDevices.first {
          $0.value.readiness.identity == identity && Int($0.value.domain.rawValue) == domain
        }?.key
      }
    guard let device else { throw .invalidArgument }
    let number = try DescriptorNumber(duplicating: file)
    return (device, openDescriptor(of: device, process: process, number))
  }

  /// Closes a process's descriptor, and its device if that was the last.
  mutating func closeDescriptor(_ descriptor: Int) {
    guard let closed = descriptors.removeValue(forKey: descriptor) else { return }
    closed.number?.detach()
    reapDevices()
  }

  /// Closes the devices whose last descriptor is closed, whether of a process or a duplicate
  /// outside all processes.
  mutating func reapDevices() {
    let held = Set(descriptors.values.map(\.device))
    let devices = grantDevices.filter {
      !held.contains($0.key) && $0.value.file?.isReleased != false
    }
    for handle in devices.keys.sorted() { closeGrantDevice(handle) }
    let others = allocators.filter {
      !held.contains($0.key) && $0.value.file?.isReleased != false
    }
    for handle in others.keys.sorted() { closeAllocator(handle) }
    let channels = eventDevices.filter {
      !held.contains($0.key) && $0.value.readiness.isReleased
    }
    for handle in channels.keys.sorted() { closeEventDevice(handle) }
  }
}
