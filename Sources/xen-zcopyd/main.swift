// xen-zcopyd: serves buffers that Xen domains share to programs of this domain.
import SystemPackage
import Support
import ZcopyServer

#if canImport(Glibc)
  import Glibc
#endif

/// Exits with one line on standard error.
func fail(_ text: String, code: Int32) -> Never {
  _ = try? FileDescriptor.standardError.writeAll("xen-zcopyd: \(text)\n".utf8)
  exit(code)
}

/// Raises the limit of descriptors to its maximum: each buffer needs two or more.
func raiseDescriptorLimit() {
  var limit = rlimit()
  // SAFETY: the calls write and read the structure.
  guard unsafe getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return }
  limit.rlim_cur = limit.rlim_max
  _ = unsafe setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
}

// A client that disconnects, or a closed terminal, must not end the daemon.
_ = signal(SIGPIPE, SIG_IGN)
do {
  let options = try Options(CommandLine.arguments.dropFirst())
  switch options.task {
  case .help: print(Options.usage)
  case .version: print("xen-zcopyd \(zcopyVersion)")
  // Opens no file or device, because the daemon that asks still serves.
  case .formats: print(ServerState.formats.map { "\($0)" }.joined(separator: " "))
  case .check:
    _ = try ConfigurationFile(reading: options.configuration)
    let path = options.configuration ?? Configuration.defaultPath
    // SAFETY: the string lives for the call.
    let isThere = unsafe access(path, F_OK) == 0
    print(
      isThere ? "\(path) is in order" : "there is no \(path): defaults hold")
  case .serve:
    raiseDescriptorLimit()
    try Daemon(options).run()
  }
} catch let refusal as Options.Refusal {
  fail("\(refusal.text); see xen-zcopyd --help", code: 64)
} catch {
  fail("\(error)", code: 1)
}
