// swift-tools-version: 6.2
import PackageDescription

let package = Package(
    name: "lowdose-benchmark",
    dependencies: [.package(name: "tomos", path: "../..")],
    targets: [
        .executableTarget(name: "LowDoseWorker", dependencies: [.product(name: "TomosTomography", package: "tomos")]),
        .executableTarget(name: "DenoiseWorker", dependencies: [.product(name: "TomosTomography", package: "tomos")]),
    ],
    swiftLanguageModes: [.v6]
)
