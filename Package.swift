// swift-tools-version: 6.2

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

/// Targets whose size counts more than their speed: the kernel's work outweighs theirs.
let small: [SwiftSetting] =
  strict + [
    .unsafeFlags(
      ["-Osize", "-Xfrontend", "-disable-reflection-metadata"], .when(configuration: .release))
  ]

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
    .library(name: "XenGrant", targets: ["XenGrant"]),
    .library(name: "DmaBuf", targets: ["DmaBuf"]),
    .library(name: "ZcopyBackend", targets: ["ZcopyBackend"]),
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
    .target(name: "CContract"),
    .target(
      name: "CPNG", dependencies: ["CLibPNG"],
      // For a static executable, after libpng, which needs them.
      linkerSettings: [.linkedLibrary("z"), .linkedLibrary("m")]),

    .target(name: "ZcopyMemory", dependencies: ["CZcopy", system], swiftSettings: small),
    .target(
      name: "XenGrant", dependencies: ["CXen", "CZcopy", "ZcopyMemory", logging, system],
      swiftSettings: small),
    .target(
      name: "DmaBuf", dependencies: ["CZcopy", "ZcopyMemory", system], swiftSettings: small),
    .target(
      name: "ZcopyBackend", dependencies: ["CZcopy", "DmaBuf", "XenGrant", "ZcopyMemory", system],
      // Small too, but the command prints its enumerations by their names.
      swiftSettings: strict + [.unsafeFlags(["-Osize"], .when(configuration: .release))]),
    .target(
      name: "ZcopyService",
      dependencies: [
        "CZcopy", "DmaBuf", "XenGrant", "ZcopyBackend", "ZcopyMemory", logging, system,
      ],
      swiftSettings: small),
    .target(
      name: "XenSimulator", dependencies: ["CZcopy", "DmaBuf", "XenGrant", system],
      swiftSettings: strict),
    .target(
      name: "XenContract", dependencies: ["CContract", "CZcopy", "DmaBuf", "XenGrant", system],
      swiftSettings: strict),
    .executableTarget(
      name: "xen-zcopy-contract",
      dependencies: ["CContract", "CZcopy", "DmaBuf", "XenContract", "XenGrant", logging, system],
      swiftSettings: strict),
    .executableTarget(
      name: "xen-zcopy-soak",
      dependencies: ["CZcopy", "DmaBuf", "XenGrant", "ZcopyBackend", logging, system],
      swiftSettings: strict),
    .executableTarget(
      name: "xen-zcopyd-fuzz",
      dependencies: [
        "CZcopy", "DmaBuf", "XenGrant", "XenSimulator", "ZcopyBackend", "ZcopyService", logging,
        system,
      ],
      swiftSettings: strict),
    // Counts allocations, in a program that is linked so that they come there.
    .target(name: "CAllocations"),
    .executableTarget(
      name: "xen-zcopyd-allocations",
      dependencies: [
        "CAllocations", "CZcopy", "DmaBuf", "XenGrant", "XenSimulator", "ZcopyBackend",
        "ZcopyService", logging, system,
      ],
      swiftSettings: strict,
      linkerSettings: [.unsafeFlags(allocating.flatMap { ["-Xlinker", "--wrap=\($0)"] })]),
    .target(
      name: "Picture", dependencies: ["CPNG", "ZcopyBackend", system], swiftSettings: strict),
    .executableTarget(
      name: "xen-zcopy",
      dependencies: [
        "CZcopy", "DmaBuf", "Picture", "XenGrant", "ZcopyBackend", "ZcopyMemory", "ZcopyService",
        "libxenzcopy", argumentParser, logging, system,
      ],
      swiftSettings: strict),

    .executableTarget(
      name: "xen-zcopyd",
      dependencies: [
        "CReceiver", "CZcopy", "DmaBuf", "XenGrant", "ZcopyBackend", "ZcopyService", logging,
        system,
      ],
      swiftSettings: strict),

    // Counts the system calls of what is tested.
    .target(name: "CSystemCalls", path: "Tests/CSystemCalls"),
    // What the tests of several modules use.
    .target(
      name: "TestSupport", dependencies: ["CZcopy", "DmaBuf", system], path: "Tests/TestSupport",
      swiftSettings: strict),
    .testTarget(
      name: "libxenzcopyTests", dependencies: ["CSystemCalls", "CZcopy", "libxenzcopy", system],
      swiftSettings: strict),

    .testTarget(
      name: "PictureTests", dependencies: ["Picture", "TestSupport", "ZcopyBackend", system],
      swiftSettings: strict),
    .testTarget(
      name: "DmaBufTests", dependencies: ["CZcopy", "DmaBuf", system], swiftSettings: strict),
    .testTarget(
      name: "ZcopyBackendTests",
      dependencies: ["CZcopy", "DmaBuf", "XenGrant", "XenSimulator", "ZcopyBackend", system],
      swiftSettings: strict),
    .testTarget(
      name: "ZcopyServiceTests",
      dependencies: [
        "CZcopy", "DmaBuf", "XenGrant", "XenSimulator", "ZcopyBackend", "ZcopyService",
        "libxenzcopy", "TestSupport", logging, system,
      ],
      swiftSettings: strict),
    .testTarget(
      name: "xen-zcopydTests",
      dependencies: [
        "CZcopy", "DmaBuf", "libxenzcopy", "TestSupport", "XenGrant", "xen-zcopyd", system,
      ],
      swiftSettings: strict),
    .testTarget(
      name: "xen-zcopyd-fuzzTests", dependencies: ["xen-zcopyd-fuzz"], swiftSettings: strict),
    .testTarget(
      name: "xen-zcopyTests",
      dependencies: [
        "CZcopy", "DmaBuf", "Picture", "XenGrant", "XenSimulator", "ZcopyBackend", "ZcopyService",
        "xen-zcopy", argumentParser, logging, system,
      ],
      swiftSettings: strict),
    .testTarget(
      name: "XenGrantTests", dependencies: ["XenGrant", "XenSimulator", logging, system],
      swiftSettings: strict),
    .testTarget(
      name: "XenSimulatorTests",
      dependencies: ["CZcopy", "DmaBuf", "XenContract", "XenGrant", "XenSimulator", system],
      swiftSettings: strict),
  ]
)
