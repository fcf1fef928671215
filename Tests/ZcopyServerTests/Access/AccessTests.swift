import CZcopy
import Glibc
import SystemPackage
import Testing
import ZcopyTestKit

@testable import ZcopyServer

@Suite("The users of the daemon")
struct AccessTests {
  private func peer(_ user: UInt32, _ groups: Set<UInt32> = []) -> PeerCredentials {
    PeerCredentials(process: 1, user: user, groups: groups)
  }

  @Test("are root and the members of the group, and no other user")
  func defaults() {
    let rules = Configuration(accounts: someAccounts).defaults
    for operation in Operation.allCases {
      #expect(rules.allows(operation, to: peer(0)))
      #expect(rules.allows(operation, to: peer(1000, [1000, 64])))
      #expect(!rules.allows(operation, to: peer(1000, [1000])))
      #expect(!rules.allows(operation, to: peer(64, [1000])))
    }
  }

  @Test("are configured by user and by group")
  func configured() throws {
    let rules = try Configuration(
      parsing: "users = alice\ngroups =", path: "x", accounts: someAccounts
    ).defaults
    #expect(rules.admits(peer(1000)))
    #expect(rules.admits(peer(0)))
    #expect(!rules.admits(peer(990, [64])))
  }

  @Test("may do no more than is allowed, not even as root")
  func operations() throws {
    let rules = try Configuration(
      parsing: "allow = list", path: "x", accounts: someAccounts
    ).defaults
    #expect(rules.allows(.list, to: peer(0)))
    #expect(!rules.allows(.map, to: peer(0)))
    let none = try Configuration(parsing: "allow = none", path: "x", accounts: someAccounts)
    #expect(!none.defaults.allows(.stats, to: peer(0)))
  }

  @Test("may connect if the rules of any domain admit them")
  func connects() throws {
    let configuration = try Configuration(
      parsing: "groups =\n[domain 5]\nusers = display", path: "x", accounts: someAccounts)
    #expect(configuration.admits(peer(990)))
    #expect(!configuration.admits(peer(1000, [64])))
  }
}

@Suite("Accounts")
struct AccountNamesTests {
  @Test("are read from the files' lines, and other lines are skipped")
  func reads() {
    let names = AccountNames(
      passwd: """
        root:x:0:0:root:/root:/bin/bash
        alice:x:1000:1000::/home/alice:/bin/sh
        alice:x:1001:1001::/:/bin/sh
        # comment:x:5:5
        +nis::::::
        broken:x
        huge:x:99999999999:5::/:/x
        signed:x:+5:5::/:/x
        :x:6:6::/:/x
        """,
      group: "root:x:0:\nxen-zcopy:x:64:alice,display\n\n")
    #expect(names.users == ["root": 0, "alice": 1000])
    #expect(names.groups == ["root": 0, "xen-zcopy": 64])
  }

  @Test("of this machine have root")
  func system() {
    #expect(AccountNames.system().users["root"] == 0)
    #expect(AccountNames.system().groups["root"] == 0)
  }
}

@Suite("The other side of a connection")
struct PeerCredentialsTests {
  @Test("is this process, with its groups, if it is this process")
  func isThisProcess() throws {
    let (one, other) = try MessageSocket.pair()
    defer { for end in [one, other] { try? end.close() } }
    var groups = [UInt32](repeating: 0, count: 65_536)
    // SAFETY: the call writes at most as many groups as the array has.
    let count = unsafe getgroups(Int32(groups.count), &groups)
    try #require(count >= 0)
    let peer = try PeerCredentials(of: one)
    let own = Set(groups.prefix(Int(count))).union([getegid()])
    #expect(peer.process == getpid())
    #expect(peer.user == geteuid())
    #expect(peer.groups == own)
  }

  @Test("is unknown for a file that is no socket")
  func isNoSocket() throws {
    let file = try FileDescriptor.open(FilePath("/dev/null"), .readOnly)
    defer { try? file.close() }
    #expect(throws: Errno.notSocket) { try PeerCredentials(of: file) }
  }

  @Test("may be in more groups than the first buffer holds")
  func manyGroups() throws {
    var room: [UInt32] = [7]
    let (one, other) = try MessageSocket.pair()
    defer { for end in [one, other] { try? end.close() } }
    // SAFETY: no group is written where there is no room.
    let count = unsafe czcopy_peer_groups(one.rawValue, &room, 0)
    let expected = getgroups(0, nil)
    #expect(count == expected)
    #expect(room == [7])
  }
}
