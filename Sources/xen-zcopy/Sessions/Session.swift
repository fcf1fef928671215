import ArgumentParser

/// One run of a command that works in the loop until an event ends it.
protocol Session: AnyObject {
  /// The first error, which is reported to the user.
  var failure: (any Error)? { get set }
  /// The program that holds the buffer, if there is one.
  var program: ChildProgram? { get }
  /// Ends the session because of an error in a handler.
  func stop(for error: any Error)
}

extension Session {
  /// Runs the work, and then, whatever its result, the final steps.
  ///
  /// - Throws: the first failure; without one, `ExitCode` with the exit code of a program that
  ///   failed.
  func run(_ work: () throws -> Void, finish: () throws -> Void) throws {
    do {
      try work()
    } catch {
      failure = failure ?? error
    }
    do {
      try finish()
    } catch {
      failure = failure ?? error
    }
    if let failure { throw failure }
    if let code = program?.code, code != 0 { throw ExitCode(code) }
  }

  /// Runs the body of a handler; the first error ends the session.
  func attempt(_ body: () throws -> Void) {
    do {
      try body()
    } catch {
      failure = failure ?? error
      stop(for: error)
    }
  }
}
