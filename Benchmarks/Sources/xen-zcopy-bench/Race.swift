/// Microseconds that the body took.
func microseconds(_ body: () throws -> Void) rethrows -> Double {
  let clock = ContinuousClock()
  let (seconds, attoseconds) = try clock.measure(body).components
  return Double(seconds) * 1e6 + Double(attoseconds) / 1e12
}

/// Does the same thing in two or three ways, in turn, and each time begins with another one: whatever drifts, drifts for
/// all.
///
/// - Parameter first: a way, as the others are: returns how long its steps took.
/// - Returns: the median of each step of each way.
func race(
  rounds: Int, _ first: () throws -> [Double], _ second: () throws -> [Double],
  _ third: () throws -> [Double] = { [] }
) rethrows -> [[Double]] {
  var figures: [[[Double]]] = [[], [], []]
  for round in 0..<rounds {
    for turn in 0..<3 {
      switch (round + turn) % 3 {
      case 0: figures[0].append(try first())
      case 1: figures[1].append(try second())
      default: figures[2].append(try third())
      }
    }
  }
  return figures.map { laps in
    (laps.first ?? []).indices.map { step in median(laps.map { $0[step] }) }
  }
}

func median(_ figures: [Double]) -> Double {
  let sorted = figures.sorted()
  let middle = sorted.count / 2
  return sorted.count % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
}
