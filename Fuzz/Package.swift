// swift-tools-version: 6.2
import PackageDescription

// The whole import path under libFuzzer; built by the Makefile, which names the sanitizers.
let package = Package(
    name: "tomos-fuzz",
    dependencies: [.package(name: "tomos", path: "..")],
    targets: [
        .executableTarget(name: "ImportFuzz", dependencies: [.product(name: "TomosArchive", package: "tomos")],
                          swiftSettings: [.unsafeFlags(["-parse-as-library", "-O"])]),
    ],
    swiftLanguageModes: [.v6]
)
