import Logging
import SystemPackage
import ZcopyTestKit
import Testing
@testable import ZcopyEngine
import XenGrant
import ZcopyBackend

@testable import ZcopyServer
@testable import ZcopyWire

/// The accounts of a fictitious machine.
let someAccounts = AccountNames(
  users: ["root": 0, "alice": 1000, "display": 990], groups: ["xen-zcopy": 64, "video": 44])

private func parse(_ text: String) throws(ConfigurationError) -> Configuration {
  try Configuration(parsing: text, path: "/etc/x.conf", accounts: someAccounts)
}

private func refusal(_ text: String) -> String? {
  do throws(ConfigurationError) {
    _ = try parse(text)
    return nil
  } catch {
    return "\(error)"
  }
}

@Suite("A configuration")
struct ConfigurationTests {
  @Test("that is empty is the default, which is within Xen's default maptrack")
  func defaults() throws {
    let configuration = try parse("")
    #expect(configuration == Configuration(accounts: someAccounts))
    #expect(try parse("# nothing\n\n  \t\r\n#key = value\n[domain *]") == configuration)
    #expect(configuration.totals.bytes <= 1024 * 256 * 4096 * 3 / 4)
    #expect(configuration.defaults.limits.bytes <= configuration.totals.bytes)
    #expect(configuration.defaults.groups == [64])
    #expect(configuration.socketGroup == 64)
  }

  @Test("admits only root if there is no group xen-zcopy")
  func noGroup() throws {
    let configuration = try Configuration(
      parsing: "", path: "/etc/x.conf", accounts: AccountNames())
    #expect(configuration.defaults.groups.isEmpty)
    #expect(configuration.socketGroup == nil)
  }

  @Test("sets every key")
  func everything() throws {
    let configuration = try parse(
      """
      socket = /run/other
      socket-mode = 0666
      socket-group = video
      log-level = debug
      metrics-file = /var/lib/node_exporter/zcopy.prom
      metrics-interval = 2min
      max-clients = 12
      total-max-bytes = 1G
      total-max-buffers = 100
      total-max-directory-pages = 200
      total-max-requests-per-second = 300
      total-soft-percent = 50
      users = alice, 7
      groups = video 9
      allow = map, list
      max-bytes = 8100K
      max-buffers = 3
      max-directory-pages = 4
      max-requests-per-second = 5
      soft-percent = 0
      max-buffer-bytes = 128M
      mechanisms = copy
      memory = heap:system
      release-deadline = 500ms
      """)
    var expected = Configuration(accounts: someAccounts)
    expected.socket = "/run/other"
    expected.socketMode = 0o666
    expected.socketGroup = 44
    expected.logLevel = .debug
    expected.metricsFile = "/var/lib/node_exporter/zcopy.prom"
    expected.metricsInterval = .seconds(120)
    expected.maximumClients = 12
    expected.totals = ResourceLimits(
      bytes: 1 << 30, buffers: 100, directoryPages: 200, requestsPerSecond: 300, softPercent: 50)
    expected.defaults.users = [1000, 7]
    expected.defaults.groups = [44, 9]
    expected.defaults.operations = [.map, .list]
    expected.defaults.limits = ResourceLimits(
      bytes: 8_294_400, buffers: 3, directoryPages: 4, requestsPerSecond: 5, softPercent: 0)
    expected.defaults.bytesPerBuffer = 128 << 20
    expected.defaults.mechanisms = [.copy]
    expected.defaults.memory = .heap("system")
    expected.defaults.releaseDeadline = .milliseconds(500)
    #expect(configuration == expected)
  }

  @Test("is read the same with any blanks, line ends and comments")
  func blanks() throws {
    let plain = try parse("max-bytes = 1M\n[domain 5]\nallow = map\n")
    #expect(
      try parse("\t max-bytes=1M\t# so much\r\n[ domain\t5 ]   # five\r\n  allow =map") == plain)
  }

  @Test("keeps a # inside a value")
  func hash() throws {
    #expect(try parse("metrics-file = /var/a#b").metricsFile == "/var/a#b")
  }

  @Test("applies the rules for a domain's number before those for its name, and else the defaults")
  func sections() throws {
    let configuration = try parse(
      """
      [domain 5]
      max-buffers = 5
      [domain work vm]
      max-buffers = 6
      [domain *]
      max-buffers = 7
      max-bytes = 9K
      """)
    let five = try #require(DomainID(rawValue: 5))
    let six = try #require(DomainID(rawValue: 6))
    #expect(configuration.rules(for: five, named: "work vm").limits.buffers == 5)
    #expect(configuration.rules(for: six, named: "work vm").limits.buffers == 6)
    #expect(configuration.rules(for: six, named: "work").limits.buffers == 7)
    #expect(configuration.rules(for: six, named: nil).limits.buffers == 7)
    #expect(configuration.rules(for: five, named: nil).limits.bytes == 9 << 10)
    #expect(configuration.needsNames)
    #expect(!(try parse("[domain 5]").needsNames))
  }

  @Test(
    "is refused with the line, the key and the accepted values",
    arguments: [
      (
        "max-bytes = 12Q",
        "/etc/x.conf:1: max-bytes takes a size such as 4096, 256M or 1G, or 0 for no limit, not '12Q'"
      ),
      (
        "\n\nmax-buffers = -1",
        "/etc/x.conf:3: max-buffers takes a number, or 0 for no limit, not '-1'"
      ),
      ("max-buffers = 4294967296", "not '4294967296'"),
      ("max-bytes = 99999999999G", "not '99999999999G'"),
      ("max-bytes =", "max-bytes takes a size"),
      ("max-buffer-bytes = 0", "at least 4096"),
      ("soft-percent = 101", "a number from 1 to 100"),
      ("max-clients = 0", "a number from 1 to 65536"),
      ("socket = run", "absolute path"),
      ("socket = @", "absolute path"),
      ("socket-mode = 0888", "octal mode"),
      ("socket-mode = 1777", "octal mode"),
      ("socket-group = xen-zcopy video", "a group"),
      (
        "log-level = loud",
        "one of trace, debug, info, notice, warning, error, critical, not 'loud'"
      ),
      ("release-deadline = 10", "a time such as 500ms, 10s or 2min"),
      ("release-deadline = 0s", "a time"),
      ("release-deadline = 1441min", "at most a day"),
      ("metrics-interval = 5 s", "a time"),
      ("metrics-file = relative", "absolute path"),
      ("allow = map, fly", "none, or some of map, share, list, stats"),
      ("allow =", "none, or some of"),
      ("mechanisms = gpu", "one or more of dmabuf, copy, cpu"),
      ("mechanisms = copy copy", "one or more of dmabuf, copy, cpu"),
      ("memory = fd:5", "auto, udmabuf or heap:NAME"),
      ("memory = heap:../x", "auto, udmabuf or heap:NAME"),
      ("users = nobody-here", "no user 'nobody-here' is in /etc/passwd"),
      ("groups = xen-zcopy, wheel", "no group 'wheel' is in /etc/group"),
      ("max-byte = 1", "unknown key 'max-byte'; known here: allow, "),
      (
        "[domain 5]\nsocket = /x",
        ":2: socket is not of one domain; set it before the first section"
      ),
      ("allow = map\nallow = map", ":2: allow is set already, on line 1"),
      ("allow = map\n[domain *]\nallow = map", ":3: allow is set already, on line 1"),
      ("[domain 5]\n[domain 6]\n[domain 05]", ":3: a section for 05 is there already, on line 1"),
      ("[domain *]\n[domain *]", ":2: a section for * is there already, on line 1"),
      ("[domain 32752]", "no domain's number; they go from 0 to 32751"),
      ("[domain]", "is no section"), ("[domain 5", "is no section"), ("[guest 5]", "is no section"),
      ("[]", "is no section"), ("[", "is no section"), ("[domain a/b]", "no domain's name"),
      ("allow", "is neither 'key = value' nor '[domain NAME]'"),
      ("= 5", "unknown key ''"),
    ])
  func refuses(_ text: String, reason: String) throws {
    let line = try #require(refusal(text))
    #expect(line.contains(reason))
    #expect(line.hasPrefix("/etc/x.conf:"))
    #expect(!line.contains("\n"))
  }

  @Test("is refused for its first bad line, with control characters escaped")
  func firstLine() throws {
    let line = try #require(refusal("log-level = \u{1b}[31mred\nmax-bytes = x"))
    #expect(line.hasPrefix("/etc/x.conf:1: "))
    #expect(line.contains("'?[31mred'"))
  }

  @Test("is read or refused for any bytes, and never crashes the process")
  func nonsense() throws {
    var numbers = RepeatableNumbers(seed: 1)
    var refused = 0
    let letters = Array("[]=#*domain 5\n\r\t\0max-bytes,allowé\u{2028}".unicodeScalars)
    for _ in 0..<2000 {
      var text = String.UnicodeScalarView()
      for _ in 0..<numbers.below(60) { text.append(numbers.one(of: letters)) }
      guard let line = refusal(String(text)) else { continue }
      refused += 1
      let isOneLine = line.unicodeScalars.allSatisfy { $0.value >= 0x20 && $0 != "\u{2028}" }
      #expect(line.hasPrefix("/etc/x.conf:") && isOneLine, "\(String(text).debugDescription)")
    }
    // Comments and empty files are valid.
    #expect((1000..<2000).contains(refused))
  }
}

@Suite("A configuration file")
struct ConfigurationFileTests {
  @Test("that was requested and does not exist is an error")
  func missing() {
    #expect(
      throws: ConfigurationError(path: "/nowhere/x.conf", unreadable: .noSuchFileOrDirectory)
    ) { try ConfigurationFile(reading: "/nowhere/x.conf", accounts: someAccounts) }
  }

  @Test("that is no regular file is an error, as is one without an end")
  func notAFile() {
    #expect(throws: ConfigurationError(path: "/tmp", unreadable: .isDirectory)) {
      try ConfigurationFile(reading: "/tmp", accounts: someAccounts)
    }
    #expect(throws: ConfigurationError(path: "/dev/zero", unreadable: .fileTooLarge)) {
      try ConfigurationFile(reading: "/dev/zero", accounts: someAccounts)
    }
  }

  @Test("is read together with its text, with which a successor continues")
  func kept() throws {
    let directory = try TemporaryDirectory()
    let text = "max-clients = 7\n[domain *]\nusers = alice\n"
    let path = try directory.write(text, to: "conf")
    let file = try ConfigurationFile(reading: path, accounts: someAccounts)
    #expect(file.text == text)
    #expect(file.configuration.maximumClients == 7)
    #expect(ConfigurationFile(kept: file.text, accounts: someAccounts) == file)
  }

  @Test("that names a deleted user is replaced by the defaults, and its text is kept")
  func goneUser() {
    let file = ConfigurationFile(
      kept: "[domain *]\nusers = alice\n", accounts: AccountNames(users: [:], groups: [:]))
    #expect(file.configuration == Configuration(accounts: AccountNames()))
    #expect(file.text == "[domain *]\nusers = alice\n")
  }
}
