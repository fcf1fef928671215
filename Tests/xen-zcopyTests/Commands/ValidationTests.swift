import ArgumentParser
import Testing

@testable import xen_zcopy

/// An invalid command line is refused before any other action, with exit code 64.
@Suite("A command line")
struct ValidationTests {
  /// What the command says of a line, or nil if it takes it.
  private func complaint(_ line: String) -> String? {
    do {
      _ = try XenZcopy.parseAsRoot(line.split(separator: " ").map(String.init))
      return nil
    } catch {
      #expect(XenZcopy.exitCode(for: error).rawValue == 64)
      return XenZcopy.message(for: error)
    }
  }

  @Test(
    "that is valid is accepted",
    arguments: [
      "doctor", "doctor --json", "doctor --verbose",
      "list", "list --domain guest --json", "describe abcd", "unmap 0123456789abcdef", "wait ABCD",
      "wait abcd --timeout 0", "top --once", "stats --prometheus", "events --domain 1 --json",
      "map --from x --direct", "map --from x --persistent --dump a",
      "map --from x --draw smpte --direct",
      "share --domain 0 --size 1 --persistent", "share --domain 0 --size 1 --direct",
      "map --from /local/domain/1/data/zcopy/screen", "map --from x --follow --verify counting",
      "map --domain 1 --directory 812 --size 8100K",
      "map --domain guest --directory 1 --size 1 --offset 0",
      "map --domain 1 --directory 812 --size 8100K --dump a.raw",
      "map --domain 1 --directory 812 --size 8100K --dump a.png --width 4 --height 4 --stride 16",
      "map --from x --dump a.png", "map --from x --exec sh -c --json",
      "map --from x --name 1234567890123456789012345678901",
      "map --from x --release-timeout 0", "map --from x --release-timeout 3600",
      "map --from x --mechanism auto", "map --from x --mechanism dmabuf",
      "map --from x --mechanism copy --exec sh", "map --from x --mechanism cpu --dump a",
      "map --domain 1 --offer-directory --size 8M",
      "map --domain 1 --offer-directory --size 8M --mechanism copy --verify counting",
      "map --from x --draw smpte", "map --from x --draw counting --follow",
      "map --from x --draw a.png", "map --from x --draw A.PNG --verify smpte",
      "share --domain 0 --size 1", "share --domain 0 --pattern smpte",
      "share --domain 0 --size 1 --memory auto", "share --domain 0 --size 1 --memory udmabuf",
      "share --domain 0 --size 1 --memory gntalloc",
      "share --domain 0 --size 1 --memory heap:system --exec sh -c true",
      "share --domain 0 --memory fd:5", "share --domain 0 --memory fd:5 --into-directory 812",
      "share --domain 0 --width 4 --height 4", "share --domain 0 --size 1 --exec true",
      "share --domain 0 --pattern smpte --publish s --frames 9 --pool 32M",
      "share --domain 0 --width 4 --height 4 --publish s --dump a.png --verify smpte",
      "share --domain 0 --size 4096 --publish s --dump a",
      "share --domain 0 --file a.png",
      "share --domain 0 --pattern counting --size 4096 --publish a-Z_9",
      "share --domain 0 --pattern counting --width 4 --height 4",
      "share --domain 0 --pattern smpte --publish s --frames 1 --fps 240",
      "share --domain 0 --pattern smpte --publish s --frames 1 --fps 0.001",
    ])
  func good(line: String) { #expect(complaint(line) == nil) }

  @Test(
    "that is invalid is refused with the reason",
    arguments: [
      (
        "map --from x --persistent --direct",
        "--persistent needs xen-zcopyd, and --direct works without"
      ),
      (
        "map --from x --persistent --exec sh",
        "--persistent exits at once: leave out the options that keep it running"
      ),
      ("wait abcd --timeout 86401", "--timeout takes 0 to 86400 seconds"),
      ("stats --prometheus --json", "--prometheus and --json exclude each other"),
      ("map", "give --from, or --domain and --size with --directory or --offer-directory"),
      (
        "map --domain 1",
        "give --from, or --domain and --size with --directory or --offer-directory"
      ),
      (
        "map --domain 1 --directory 8",
        "give --from, or --domain and --size with --directory or --offer-directory"
      ),
      (
        "map --directory 8 --size 1",
        "give --from, or --domain and --size with --directory or --offer-directory"
      ),
      (
        "map --from x --domain 1",
        "--from has the domain, directory, size and offset: leave them out"
      ),
      (
        "map --from x --directory 8",
        "--from has the domain, directory, size and offset: leave them out"
      ),
      (
        "map --from x --size 8", "--from has the domain, directory, size and offset: leave them out"
      ),
      (
        "map --from x --offset 8",
        "--from has the domain, directory, size and offset: leave them out"
      ),
      (
        "map --domain 1 --directory 8 --size 1 --follow",
        "--follow needs --from: frames are announced there"
      ),
      ("map --from x --release-timeout 3601", "--release-timeout takes 0 to 3600 seconds"),
      ("map --from x --release-timeout=-1", "--release-timeout takes 0 to 3600 seconds"),
      ("map --from x --name 12345678901234567890123456789012", "--name takes at most 31 bytes"),
      ("map --from x --name ééééééééééééééééé", "--name takes at most 31 bytes"),
      (
        "map --domain 1 --directory 8 --size 1 --dump a.PNG",
        "a picture needs --width and --height; or dump to a name without .png"
      ),
      ("map --from x --width 4", "--width and --height go together"),
      ("share --domain 0 --size 1 --height 4", "--width and --height go together"),
      ("share --domain 0 --file a --pattern smpte", "--file and --pattern exclude each other"),
      (
        "share --domain 0",
        "give --size, --file, a picture's --width and --height, or --memory fd:N"
      ),
      (
        "share --domain 0 --pattern counting",
        "give --size, --file, a picture's --width and --height, or --memory fd:N"
      ),
      (
        "map --domain 1 --directory 8 --offer-directory --size 1",
        "give --from, or --domain and --size with --directory or --offer-directory"
      ),
      (
        "map --domain 1 --offer-directory",
        "give --from, or --domain and --size with --directory or --offer-directory"
      ),
      (
        "map --from x --offer-directory",
        "--from has the domain, directory, size and offset: leave them out"
      ),
      (
        "map --domain 1 --offer-directory --size 1 --follow",
        "--follow needs --from: frames are announced there"
      ),
      ("map --from x --draw bars", "--draw takes smpte, counting, or a file that ends in .png"),
      ("map --from x --draw a.jpg", "--draw takes smpte, counting, or a file that ends in .png"),
      (
        "map --from x --mechanism cpu --exec sh",
        "--exec needs a dma-buf, which the mechanism cpu does not make"
      ),
      (
        "share --domain 0 --size 1 --memory gntalloc --exec sh",
        "--exec needs a dma-buf, which memory of gntalloc is not"
      ),
      (
        "share --domain 0 --memory udmabuf",
        "give --size, --file, a picture's --width and --height, or --memory fd:N"
      ),
      (
        "share --domain 0 --pattern smpte --pool 32M",
        "--pool needs --publish, --pattern and --frames"
      ),
      (
        "share --domain 0 --pattern smpte --publish s --pool 32M",
        "--pool needs --publish, --pattern and --frames"
      ),
      (
        "share --domain 0 --size 1 --publish s --pool 32M",
        "--pool needs --publish, --pattern and --frames"
      ),
      (
        "share --domain 0 --pattern smpte --publish s --frames 2 --pool 0",
        "--pool must be at least 1 byte"
      ),
      (
        "share --domain 0 --size 1 --dump a",
        "--dump and --verify need --publish: the peer says there what it has drawn"
      ),
      (
        "share --domain 0 --size 1 --verify smpte",
        "--dump and --verify need --publish: the peer says there what it has drawn"
      ),
      (
        "share --domain 0 --size 1 --publish s --dump a.png",
        "a picture needs --width and --height; or dump to a name without .png"
      ),
      ("share --domain 0 --size 0", "--size must be at least 1 byte"),
      (
        "share --domain 0 --size 1 --publish a/b",
        "--publish takes 1 to 31 letters, digits, - and _"
      ),
      (
        "share --domain 0 --size 1 --publish a.b",
        "--publish takes 1 to 31 letters, digits, - and _"
      ),
      ("share --domain 0 --pattern smpte --publish s --frames 0", "--frames must be at least 1"),
      ("share --domain 0 --pattern smpte --publish s --frames=-1", "--frames must be at least 1"),
      ("share --domain 0 --pattern smpte --frames 5", "--frames needs --publish and --pattern"),
      (
        "share --domain 0 --size 1 --publish s --frames 5", "--frames needs --publish and --pattern"
      ),
      ("share --domain 0 --size 1 --fps 0", "--fps takes 0.001 to 240"),
      ("share --domain 0 --size 1 --fps 240.1", "--fps takes 0.001 to 240"),
      ("share --domain 0 --size 1 --fps=-1", "--fps takes 0.001 to 240"),
      ("share --domain 0 --size 1 --fps nan", "--fps takes 0.001 to 240"),
      ("share --domain 0 --size 1 --fps inf", "--fps takes 0.001 to 240"),
      // A frame in 10^30 seconds is more than a Duration holds.
      ("share --domain 0 --size 1 --fps 1e-30", "--fps takes 0.001 to 240"),
      (
        "share --domain 0 --size 1 --release-timeout 3601",
        "--release-timeout takes 0 to 3600 seconds"
      ),
    ])
  func bad(line: String, complaint: String) {
    #expect(self.complaint(line) == complaint)
  }

  @Test(
    "with a value of the wrong kind names its option",
    arguments: [
      ("share --domain -1 --size 1", "--domain"), ("share --domain 65536 --size 1", "--domain"),
      ("share --domain 0 --size -1", "--size"), ("share --domain 0 --size 8X", "--size"),
      ("share --domain 0 --size 1ß", "--size"),
      ("map --domain 1 --directory 0 --size 1", "--directory"),
      ("map --from x --format NV12 --width 1 --height 1", "--format"),
      ("share --domain 0 --pattern bars", "--pattern"),
      ("map --from x --max-size 1ﬁ", "--max-size"),
      ("share --size 1", "--domain"),
      ("map --from x --mechanism gpu", "--mechanism"),
      ("share --domain 0 --size 1 --memory malloc", "--memory"),
      ("share --domain 0 --size 1 --memory heap:a/b", "--memory"),
      ("share --domain 0 --memory fd:+1", "--memory"),
      ("share --domain 0 --size 1 --into-directory 0", "--into-directory"),
      ("share --domain 0 --size 1 --pool 1T", "--pool"),
    ])
  func badValue(line: String, option: String) {
    #expect(complaint(line)?.contains(option) == true)
  }

  @Test("is helped with: each option is named, with its values and its default")
  func help() {
    let map = XenZcopy.helpMessage(for: MapCommand.self, columns: 1000)
    for words in [
      "--mechanism <mechanism>", "dmabuf (no copy)", "default: auto)", "--offer-directory",
      "--draw <pattern|file.png>", "--exec <command>", "ZCOPY_FD", "--follow", "--max-size",
    ] {
      #expect(map.contains(words), "\(words)")
    }
    let share = XenZcopy.helpMessage(for: ShareCommand.self, columns: 1000)
    for words in [
      "--memory <memory>", "gntalloc, udmabuf, heap:NAME, fd:N", "default: auto)",
      "--into-directory <reference>", "--pool <size>", "--dump <file>", "--verify <pattern>",
      "--exec <command>",
    ] {
      #expect(share.contains(words), "\(words)")
    }
    let doctor = XenZcopy.helpMessage(for: DoctorCommand.self, columns: 1000)
    #expect(doctor.contains("Exits 0 if mapping works here, 69 if not"))
  }
}
