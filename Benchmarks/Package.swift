// swift-tools-version: 6.2

import PackageDescription

let package = Package(
  name: "Benchmarks",
  dependencies: [.package(name: "xen-zcopy", path: "..")],
  targets: [
    // The floor: what bare C costs.
    .target(name: "Floor", cSettings: [.unsafeFlags(["-O2"])]),
    .executableTarget(
      name: "xen-zcopy-bench",
      dependencies: [
        "Floor",
        .product(name: "DmaBuf", package: "xen-zcopy"),
        .product(name: "XenGrant", package: "xen-zcopy"),
        .product(name: "ZcopyBackend", package: "xen-zcopy"),
        .product(name: "libxenzcopy", package: "xen-zcopy"),
      ]),
  ]
)
