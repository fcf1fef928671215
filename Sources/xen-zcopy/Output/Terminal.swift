import Glibc
import SystemPackage

/// Controls the terminal on standard output while the value exists: keys are read at once, and
/// output is drawn in place.
struct Terminal: ~Copyable {
  private var saved = termios()
  private let hasKeys: Bool

  /// Whether standard output is a terminal that supports drawing in place.
  static var isUsable: Bool {
    // SAFETY: the value is read before the environment could change: nothing in this program
    // changes it.
    let kind = unsafe getenv("TERM").map { unsafe String(cString: $0) } ?? ""
    return isatty(STDOUT_FILENO) == 1 && !kind.isEmpty && kind != "dumb"
  }

  /// Disables line buffering and echo, if standard input is a terminal too.
  init() {
    // SAFETY: the call writes the settings.
    hasKeys = unsafe tcgetattr(STDIN_FILENO, &saved) == 0
    guard hasKeys else { return }
    var settings = saved
    settings.c_lflag &= ~tcflag_t(ICANON | ECHO)
    // SAFETY: the settings live for the call.
    unsafe _ = tcsetattr(STDIN_FILENO, TCSANOW, &settings)
  }

  deinit {
    guard hasKeys else { return }
    var settings = saved
    // SAFETY: the settings live for the call.
    unsafe _ = tcsetattr(STDIN_FILENO, TCSADRAIN, &settings)
  }

  /// Whether keys can be read.
  var takesKeys: Bool { hasKeys }

  /// Replaces the screen's contents with lines, as many as fit, truncated at the right edge.
  static func screen(_ lines: [String]) -> String {
    var size = winsize()
    // SAFETY: the call writes the size.
    let isKnown = unsafe ioctl(STDOUT_FILENO, UInt(TIOCGWINSZ), &size) == 0
    let rows = isKnown && size.ws_row > 1 ? Int(size.ws_row) - 1 : 24
    let columns = isKnown && size.ws_col > 0 ? Int(size.ws_col) : 80
    let shown = lines.prefix(rows).map { "\($0.prefix(columns))\u{1b}[K\n" }
    return "\u{1b}[H" + shown.joined() + "\u{1b}[J"
  }
}
