// swift-tools-version: 6.2
import PackageDescription

let package = Package(
    name: "tomos-benchmarks",
    dependencies: [.package(name: "tomos", path: "..")],
    targets: [
        .executableTarget(name: "BenchWorker", dependencies: [.product(name: "TomosCore", package: "tomos")]),
        .target(name: "CLimits"),
        .executableTarget(name: "KernelBench", dependencies: ["CLimits", .product(name: "TomosCore", package: "tomos")]),
        .executableTarget(name: "LoadBench", dependencies: [.product(name: "TomosArchive", package: "tomos")]),
    ],
    swiftLanguageModes: [.v6]
)
