import ArgumentParser
import Support

/// The command `xen-zcopy`.
@main
struct XenZcopy: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "xen-zcopy",
    abstract: "Share big buffers between Xen domains without copying.",
    discussion: """
      In dom0 or a driver domain, turns another domain's granted pages into a dma-buf (map); in any domain, \
      grants a buffer to another one (share). Start with doctor, which says what works here. Where the daemon xen-zcopyd \
      runs, buffers are the daemon's, and list, top and their like show them.

      In the guest:   xen-zcopy share --domain 0 --pattern smpte --publish screen
      In dom0:        xen-zcopy map --from /local/domain/1/data/zcopy/screen --dump screen.png

      Exit codes: 0 done, 1 refused or failed, 64 wrong usage, 69 no Xen, no daemon or no device, 75 try again.
      """,
    version: zcopyVersion,
    subcommands: [DoctorCommand.self, MapCommand.self, ShareCommand.self],
    groupedSubcommands: [
      CommandGroup(
        name: "Daemon",
        subcommands: [
          ListCommand.self, DescribeCommand.self, UnmapCommand.self, UnshareCommand.self,
          WaitCommand.self, TopCommand.self, EventsCommand.self, StatsCommand.self,
        ])
    ])
}
