import Floor

/// Instructions that the body took, the kernel's and Xen's included, where the processor's counter is one of instructions.
func instructions(_ body: () throws -> Void) rethrows -> Double {
  let start = floor_counter()
  try body()
  return Double(floor_counter() &- start) / 2
}

/// Does the same thing in two or three ways, in turn, and each time begins with another one: whatever drifts, drifts for
/// all.
///
/// - Parameter first: a way, as the others are: returns what its steps cost.
/// - Returns: the lower quartile of each step of each way. Interrupts add instructions to more than half of the longer rounds,
///   and a round in which the kernel has to get no memory is rare.
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
    (laps.first ?? []).indices.map { step in quartile(laps.map { $0[step] }) }
  }
}

private func quartile(_ figures: [Double]) -> Double { figures.sorted()[figures.count / 4] }
