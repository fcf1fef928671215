import Glibc
import SystemPackage

/// The terminal that standard output is, as long as the value is there: keys come at once, and what is drawn stays in place.
struct Terminal: ~Copyable {
  private var saved = termios()
  private let hasKeys: Bool

  /// Whether standard output is a terminal on which text can be drawn over.
  static var isUsable: Bool {
    // SAFETY: the value is read before anybody could change the environment: nothing here does.
    let kind = unsafe getenv("TERM").map { unsafe String(cString: $0) } ?? ""
    return isatty(STDOUT_FILENO) == 1 && !kind.isEmpty && kind != "dumb"
  }

  /// Takes keys at once and unseen, where standard input is a terminal too.
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

  /// Whether there is a key that can be waited for.
  var takesKeys: Bool { hasKeys }

  /// Lines in the place of all that is there, as many as there is room for, cut at the right edge.
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
