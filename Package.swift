// swift-tools-version: 6.3

import PackageDescription

/// Every target of ours: Swift 6 mode, memory safety checked as an error, no warnings.
let strict: [SwiftSetting] = [
  .swiftLanguageMode(.v6),
  .strictMemorySafety(),
  .treatAllWarnings(as: .error),
  .treatWarning("StrictMemorySafety", as: .error),
  .enableUpcomingFeature("ExistentialAny"),
  .enableUpcomingFeature("MemberImportVisibility"),
  .enableUpcomingFeature("InternalImportsByDefault"),
  .enableExperimentalFeature("Lifetimes"),
]

/// Whether the executables are made small. The Makefile sets the variable. A package that depends
/// on this one does not: SwiftPM accepts no unsafe flags in a dependency.
let isSmall = Context.environment["XEN_ZCOPY_SMALL"] != nil

/// Targets whose size counts more than their speed: the kernel's work outweighs theirs.
let small: [SwiftSetting] =
  isSmall
  ? strict + [
    .unsafeFlags(
      ["-Osize", "-Xfrontend", "-disable-reflection-metadata"], .when(configuration: .release))
  ] : strict

/// The same, for enumerations that the command prints by their names.
let named: [SwiftSetting] =
  isSmall ? strict + [.unsafeFlags(["-Osize"], .when(configuration: .release))] : strict

/// What allocates in libc, but for what is obsolete; all else there does so by these.
let allocating = [
  "malloc", "calloc", "realloc", "aligned_alloc", "memalign", "posix_memalign",
]

let argumentParser = Target.Dependency.product(
  name: "ArgumentParser", package: "swift-argument-parser")
let logging = Target.Dependency.product(name: "Logging", package: "swift-log")
let system = Target.Dependency.product(name: "SystemPackage", package: "swift-system")

let package = Package(
  name: "xen-zcopy",
  products: [
    .library(name: "DmaBuf", targets: ["DmaBuf"]),
    .library(name: "EventLoop", targets: ["EventLoop"]),
    .library(name: "Pixels", targets: ["Pixels"]),
    .library(name: "XenGrant", targets: ["XenGrant"]),
    .library(name: "ZcopyBackend", targets: ["ZcopyBackend"]),
    .library(name: "ZcopyEngine", targets: ["ZcopyEngine"]),
    .library(name: "ZcopyServer", targets: ["ZcopyServer"]),
    .library(name: "libxenzcopy", targets: ["libxenzcopy"]),
    .executable(name: "xen-zcopy", targets: ["xen-zcopy"]),
    .executable(name: "xen-zcopyd", targets: ["xen-zcopyd"]),
  ],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
    .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
    .package(url: "https://github.com/apple/swift-system", from: "1.8.1"),
  ],
  targets: [
    .systemLibrary(
      name: "CXen", pkgConfig: "xengnttab", providers: [.apt(["libxen-dev"])]),
    .systemLibrary(
      name: "CLibPNG", pkgConfig: "libpng", providers: [.apt(["libpng-dev"])]),
    .target(name: "CZcopy", dependencies: ["CXen"]),
    // Plain C, which `make client` builds without Swift.
    .target(
      name: "libxenzcopy", dependencies: ["CZcopy"],
      exclude: ["libxenzcopy.map", "xenzcopy.pc.in"]),
    // What the daemon's program is when it is started by another name.
    .target(name: "CReceiver", dependencies: ["CZcopy"]),
    .target(
      name: "CPNG", dependencies: ["CLibPNG"],
      // For a static executable, after libpng, which needs them.
      linkerSettings: [.linkedLibrary("z"), .linkedLibrary("m")]),

    .target(
      name: "Support", dependencies: ["CZcopy", system],
      swiftSettings: small),
    .target(
      name: "XenGrant", dependencies: ["CXen", "CZcopy", "Support", logging, system],
      swiftSettings: small),
    .target(
      name: "DmaBuf", dependencies: ["CZcopy", "Support", system],
      swiftSettings: small),
    .target(
      name: "EventLoop", dependencies: ["CZcopy", "DmaBuf", "Support", system],
      swiftSettings: small),
    .target(
      name: "Pixels", dependencies: ["Support"],
      swiftSettings: small),
    .target(
      name: "ZcopyBackend",
      dependencies: ["CZcopy", "DmaBuf", "EventLoop", "Pixels", "Support", "XenGrant", system],
      swiftSettings: named),
    .target(
      name: "ZcopyEngine",
      dependencies: [
        "CZcopy", "DmaBuf", "EventLoop", "Pixels", "Support", "XenGrant", "ZcopyBackend", logging,
        system,
      ],
      swiftSettings: small),
    .target(
      name: "ZcopyWire",
      dependencies: ["CZcopy", "Pixels", "Support", "XenGrant", "ZcopyBackend"],
      swiftSettings: small),
    .target(
      name: "ZcopyServer",
      dependencies: [
        "ZcopyEngine",
        "CZcopy", "DmaBuf", "EventLoop", "Pixels", "Support", "XenGrant", "ZcopyBackend",
        "ZcopyWire", logging, system,
      ],
      swiftSettings: small),
    .target(
      name: "Picture", dependencies: ["CPNG", "Pixels", system],
      swiftSettings: strict),
    .executableTarget(
      name: "xen-zcopy",
      dependencies: [
        "CZcopy", "DmaBuf", "EventLoop", "Picture", "Pixels", "Support", "XenGrant", "ZcopyBackend",
        "ZcopyEngine", "ZcopyServer", "ZcopyWire", "libxenzcopy", argumentParser, logging, system,
      ],
      swiftSettings: strict),
    .executableTarget(
      name: "xen-zcopyd",
      dependencies: [
        "CReceiver", "CZcopy", "DmaBuf", "EventLoop", "XenGrant", "ZcopyBackend", "ZcopyEngine",
        "ZcopyServer", "ZcopyWire",
        logging, system, "Support",
      ],
      swiftSettings: strict),

    // What tests and tools share.
    .target(
      name: "XenSimulator", dependencies: ["CZcopy", "DmaBuf", "XenGrant", system],
      path: "Testing/XenSimulator",
      swiftSettings: strict),
    .target(name: "CContract", path: "Testing/CContract"),
    .target(
      name: "XenContract", dependencies: ["CContract", "CZcopy", "DmaBuf", "XenGrant", system],
      path: "Testing/XenContract",
      swiftSettings: strict),
    // Counts the system calls of what is tested.
    .target(name: "CSystemCalls", path: "Testing/CSystemCalls"),
    // Counts allocations, in a program whose linker redirects them.
    .target(name: "CAllocations", path: "Testing/CAllocations"),
    .target(
      name: "ZcopyTestKit", dependencies: ["CZcopy", "DmaBuf", "Support", system],
      path: "Testing/ZcopyTestKit",
      swiftSettings: strict),
    // The simulated machine with its domains, the engine or server under test, clients and guests.
    .target(
      name: "ZcopyStage",
      dependencies: [
        "CZcopy", "DmaBuf", "EventLoop", "Support", "XenGrant", "XenSimulator", "ZcopyBackend",
        "ZcopyEngine", "ZcopyServer", "ZcopyTestKit", "ZcopyWire", logging, system,
      ],
      path: "Testing/ZcopyStage",
      swiftSettings: strict),

    // Programs that test. They are no products.
    .executableTarget(
      name: "xen-zcopy-contract",
      dependencies: ["CContract", "CZcopy", "DmaBuf", "XenContract", "XenGrant", logging, system],
      path: "Tools/contract",
      swiftSettings: strict),
    .executableTarget(
      name: "xen-zcopy-soak",
      dependencies: ["CZcopy", "DmaBuf", "EventLoop", "XenGrant", "ZcopyBackend", logging, system],
      path: "Tools/soak",
      swiftSettings: strict),
    .executableTarget(
      name: "xen-zcopyd-fuzz",
      dependencies: [
        "CZcopy", "DmaBuf", "EventLoop", "XenGrant", "XenSimulator", "ZcopyBackend", "ZcopyEngine",
        "ZcopyServer", "ZcopyStage", "ZcopyTestKit", "ZcopyWire", logging, system,
      ],
      path: "Tools/fuzz",
      swiftSettings: strict),
    .executableTarget(
      name: "xen-zcopy-native",
      dependencies: [
        "CZcopy", "DmaBuf", "EventLoop", "XenGrant", "XenSimulator", "ZcopyBackend", "ZcopyEngine",
        "ZcopyServer", "ZcopyStage", logging, system,
      ],
      path: "Tools/native",
      swiftSettings: strict),
    .executableTarget(
      name: "xen-zcopyd-allocations",
      dependencies: [
        "CAllocations", "CZcopy", "DmaBuf", "EventLoop", "XenGrant", "XenSimulator", "ZcopyBackend",
        "ZcopyEngine", "ZcopyServer", "ZcopyStage", "ZcopyTestKit", system,
      ],
      path: "Tools/allocations",
      swiftSettings: strict,
      linkerSettings: [.unsafeFlags(allocating.flatMap { ["-Xlinker", "--wrap=\($0)"] })]),

    // A backend that uses the engine as a library.
    .executableTarget(
      name: "zcopy-example",
      dependencies: ["EventLoop", "XenGrant", "ZcopyEngine", logging, system],
      path: "examples/swift", swiftSettings: strict),

    .testTarget(
      name: "SupportTests", dependencies: ["Support", "ZcopyTestKit", system], swiftSettings: strict
    ),
    .testTarget(
      name: "RepositoryTests", dependencies: ["DmaBuf"],
      path: "Tests/Repository",
      swiftSettings: strict),
    .testTarget(
      name: "libxenzcopyTests",
      dependencies: ["CSystemCalls", "CZcopy", "libxenzcopy", "ZcopyTestKit", system],
      swiftSettings: strict),
    .testTarget(
      name: "PixelsTests", dependencies: ["Pixels"],
      swiftSettings: strict),
    .testTarget(
      name: "EventLoopTests",
      dependencies: [
        "CZcopy", "DmaBuf", "EventLoop", "XenGrant", "XenSimulator", "ZcopyBackend", system,
        "ZcopyTestKit",
      ],
      swiftSettings: strict),
    .testTarget(
      name: "PictureTests", dependencies: ["Picture", "Pixels", "ZcopyTestKit", system],
      swiftSettings: strict),
    .testTarget(
      name: "DmaBufTests", dependencies: ["CZcopy", "DmaBuf", system, "ZcopyTestKit"],
      swiftSettings: strict),
    .testTarget(
      name: "ZcopyBackendTests",
      dependencies: [
        "CZcopy", "DmaBuf", "EventLoop", "Pixels", "Support", "XenGrant", "XenSimulator",
        "ZcopyBackend", system, "ZcopyStage", "ZcopyTestKit",
      ],
      swiftSettings: strict),
    .testTarget(
      name: "ZcopyEngineTests",
      dependencies: [
        "DmaBuf", "EventLoop", "XenGrant", "XenSimulator", "ZcopyBackend", "ZcopyEngine",
        "ZcopyStage", logging, system,
      ],
      swiftSettings: strict),
    .testTarget(
      name: "ZcopyServerTests",
      dependencies: [
        "CZcopy", "DmaBuf", "EventLoop", "Pixels", "Support", "XenGrant", "XenSimulator",
        "ZcopyBackend", "ZcopyEngine", "ZcopyServer", "ZcopyStage", "ZcopyTestKit", "ZcopyWire",
        "libxenzcopy",
        logging, system,
      ],
      // Read by FormatTests beside its source.
      exclude: ["LiveUpdate/Formats"],
      swiftSettings: strict),
    .testTarget(
      name: "ZcopyWireTests",
      dependencies: ["CZcopy", "Pixels", "XenGrant", "ZcopyBackend", "ZcopyWire"],
      swiftSettings: strict),
    .testTarget(
      name: "xen-zcopydTests",
      dependencies: [
        "CZcopy", "DmaBuf", "libxenzcopy", "XenGrant", "ZcopyTestKit", "xen-zcopyd", system,
      ],
      swiftSettings: strict),
    .testTarget(
      name: "FuzzTests", dependencies: ["xen-zcopyd-fuzz"],
      swiftSettings: strict),
    .testTarget(
      name: "xen-zcopyTests",
      dependencies: [
        "CZcopy", "DmaBuf", "EventLoop", "Picture", "Pixels", "XenGrant", "XenSimulator",
        "ZcopyBackend", "ZcopyEngine", "ZcopyServer", "ZcopyStage", "ZcopyTestKit", "ZcopyWire",
        "xen-zcopy",
        argumentParser, logging, system,
      ],
      swiftSettings: strict),
    .testTarget(
      name: "XenGrantTests", dependencies: ["XenGrant", "XenSimulator", logging, system],
      swiftSettings: strict),
    .testTarget(
      name: "XenSimulatorTests",
      dependencies: [
        "CZcopy", "DmaBuf", "XenContract", "XenGrant", "XenSimulator", "ZcopyTestKit", system,
      ],
      swiftSettings: strict),
  ]
)
