import ArgumentParser

/// One run of a command that goes on from the loop until something ends it.
protocol Session: AnyObject {
  /// What went wrong first, which is what the user is told.
  var failure: (any Error)? { get set }
  /// The program that holds the buffer, if one does.
  var program: ChildProgram? { get }
  /// Has the session end because of an error in a handler.
  func stop(for error: any Error)
}

extension Session {
  /// Does the work, and whatever came of it, all that is to be done at the end.
  ///
  /// - Throws: the first failure; without one, `ExitCode` with that of a program that failed.
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

  /// Runs what a handler does; the first error ends the session.
  func attempt(_ body: () throws -> Void) {
    do {
      try body()
    } catch {
      failure = failure ?? error
      stop(for: error)
    }
  }
}
