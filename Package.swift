// swift-tools-version: 6.2
import PackageDescription

// The core (everything below the server) needs no network library. `TOMOS_CORE=1 swift test` leaves the
// server, the executable and their twenty dependencies out, which makes work on the core quick.
let coreOnly = Context.environment["TOMOS_CORE"] == "1"

let strict: [SwiftSetting] = [
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("MemberImportVisibility"),
]

/// Rendering, decoding and assembly without optimisation are two orders of magnitude too slow to be tested,
/// so these targets are optimised in debug builds as well (assertions stay on).
let hot: [SwiftSetting] = strict + [.unsafeFlags(["-O"], .when(configuration: .debug))]
// What a kernel forgets to set is no number in the tests, rather than what happens to lie there.
let hotC: [CSetting] = [.unsafeFlags(["-O2", "-ftrivial-auto-var-init=pattern"], .when(configuration: .debug))]
let hotCXX: [CXXSetting] = [.unsafeFlags(["-O2"], .when(configuration: .debug)), .disableWarning("deprecated-declarations")]

let dcmtk: [LinkerSetting] = ["dcmtls", "dcmnet", "dcmjpeg", "dcmjpls", "ijg8", "ijg12", "ijg16", "dcmdata", "oflog", "ofstd", "charls", "z"]
    .map { .linkedLibrary($0) }

func product(_ name: String, _ package: String) -> Target.Dependency { .product(name: name, package: package) }

var products: [Product] = [
    // Scenes to pictures, without decoding and archives: for benchmarks and embedding.
    .library(name: "TomosRendering", targets: ["Geometry", "Imaging", "Compute", "ComputeCPU", "ComputeVulkan", "Rendering"]),
    // Projections to slices, noise and resolution: for benchmarks and embedding.
    .library(name: "TomosTomography", targets: ["Tomography"]),
    // Files to volumes: for the fuzzer and the load benchmark.
    .library(name: "TomosArchive", targets: ["Archive", "DICOM", "Phantoms", "Imaging"]),
    .library(name: "TomosCore", targets: ["Geometry", "Imaging", "Caching", "Phantoms", "FrameCoding", "DICOM", "Compute", "ComputeCPU", "ComputeVulkan", "Rendering", "Archive", "Streaming", "DICOMweb", "Tomography", "ProjectionData", "LowDose"]),
]

var dependencies: [Package.Dependency] = [
    .package(url: "https://github.com/groue/GRDB.swift", from: "7.10.0"),
    .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
]

var targets: [Target] = [
    // C libraries from Debian
    .systemLibrary(name: "CWebP", pkgConfig: "libwebpmux", providers: [.apt(["libwebp-dev"])]),
    .systemLibrary(name: "COpenH264", pkgConfig: "openh264", providers: [.apt(["libopenh264-dev"])]),
    .systemLibrary(name: "CTurboJPEG", pkgConfig: "libturbojpeg", providers: [.apt(["libturbojpeg0-dev"])]),
    .systemLibrary(name: "COpenJPEG", pkgConfig: "libopenjp2", providers: [.apt(["libopenjp2-7-dev"])]),
    .systemLibrary(name: "COpenBLAS", pkgConfig: "openblas", providers: [.apt(["libopenblas-dev"])]),
    .systemLibrary(name: "CKissFFT", providers: [.apt(["libkissfft-dev"])]),
    .systemLibrary(name: "CPNG", pkgConfig: "libpng", providers: [.apt(["libpng-dev"])]),
    .systemLibrary(name: "CZlib", pkgConfig: "zlib", providers: [.apt(["zlib1g-dev"])]),

    .systemLibrary(name: "CHDF5", pkgConfig: "hdf5", providers: [.apt(["libhdf5-dev"])]),

    // The core
    // What the shaders and the CPU's kernels share, and the shaders, which a plugin compiles.
    .target(name: "KernelInterface", path: "Shaders/include", publicHeadersPath: "."),
    .plugin(name: "CompileShaders", capability: .buildTool()),
    .target(name: "Shaders", path: "Shaders", exclude: ["include"], swiftSettings: strict, plugins: ["CompileShaders"]),
    .target(name: "CKernels", dependencies: ["KernelInterface"], cSettings: hotC),
    .target(name: "Geometry", swiftSettings: hot),
    .target(name: "Imaging", dependencies: ["Geometry"], swiftSettings: hot),
    .target(name: "Caching", swiftSettings: hot),
    .target(name: "CDICOM", dependencies: ["COpenJPEG"], cxxSettings: hotCXX, linkerSettings: dcmtk),
    .target(name: "DICOM", dependencies: ["CDICOM"], swiftSettings: hot),
    .target(name: "Phantoms", dependencies: ["Imaging", "Geometry"], swiftSettings: hot),
    .target(name: "FrameCoding", dependencies: ["Imaging", "CTurboJPEG", "CWebP", "COpenH264", "CPNG", "CZlib"], swiftSettings: hot),
    .target(name: "Compute", dependencies: ["KernelInterface", "Imaging", "Geometry"], swiftSettings: hot),
    .target(name: "ComputeCPU", dependencies: ["Compute", "KernelInterface", "CKernels", "Imaging", "Geometry"], swiftSettings: hot),
    .target(name: "CVulkan", cSettings: hotC),
    .target(name: "ComputeVulkan", dependencies: ["Compute", "KernelInterface", "CVulkan", "Shaders", "Imaging", "Geometry"], swiftSettings: hot),
    .target(name: "Rendering", dependencies: ["Compute", "KernelInterface", "Imaging", "Geometry", "Caching"], swiftSettings: hot),
    .target(name: "CTomography", cSettings: hotC),
    .target(name: "CDenoising", dependencies: ["COpenBLAS"], exclude: ["weights"], cSettings: hotC),
    .target(name: "Tomography", dependencies: ["Compute", "CTomography", "CDenoising", "CKissFFT", "Imaging", "Geometry"], swiftSettings: hot),
    .target(name: "ProjectionData", dependencies: ["CHDF5", "CZlib", "DICOM", "Tomography"], swiftSettings: hot),
    .target(name: "LowDose", dependencies: ["Compute", "FrameCoding", "ProjectionData", "Tomography", "Archive", "DICOM", "Imaging", "Geometry"], swiftSettings: hot),
    .target(name: "Archive", dependencies: ["CZlib", "DICOM", "Phantoms", "Imaging", "Geometry", "Caching", product("GRDB", "GRDB.swift"), product("Logging", "swift-log")], swiftSettings: hot),
    .target(name: "Streaming", dependencies: ["Rendering", "FrameCoding", "Imaging", "Geometry"], swiftSettings: hot),

    .target(name: "DICOMweb", dependencies: ["Archive", "DICOM", "Rendering", "Compute", "FrameCoding", "Imaging", "Geometry", "CZlib"], swiftSettings: strict),

    // Tests of the core
    .target(name: "TestSupport", dependencies: ["Geometry", "Imaging", "DICOM"], path: "Tests/TestSupport", swiftSettings: hot),
    .testTarget(name: "GeometryTests", dependencies: ["Geometry", "TestSupport"], swiftSettings: strict),
    .testTarget(name: "ImagingTests", dependencies: ["Imaging", "Geometry", "TestSupport"], swiftSettings: strict),
    .testTarget(name: "CachingTests", dependencies: ["Caching", "TestSupport"], swiftSettings: strict),
    .testTarget(name: "DICOMTests", dependencies: ["DICOM", "TestSupport"], swiftSettings: strict),
    .testTarget(name: "PhantomsTests", dependencies: ["Phantoms", "Imaging", "Geometry", "TestSupport"], swiftSettings: strict),
    .testTarget(name: "FrameCodingTests", dependencies: ["FrameCoding", "COpenH264", "Imaging", "TestSupport", "CZlib"], swiftSettings: strict),
    .testTarget(name: "RenderingTests", dependencies: ["Archive", "Rendering", "Compute", "ComputeCPU", "CKernels", "KernelInterface", "Imaging", "Geometry", "Phantoms", "FrameCoding", "TestSupport"], exclude: ["Golden"], swiftSettings: hot),
    .testTarget(name: "VulkanTests", dependencies: ["ComputeVulkan", "CVulkan", "Shaders", "Tomography", "Rendering", "Compute", "ComputeCPU", "Imaging", "Geometry", "Phantoms", "TestSupport"], swiftSettings: hot),
    .testTarget(name: "TomographyTests", dependencies: ["Tomography", "CTomography", "CDenoising", "Imaging", "Geometry", "TestSupport"], swiftSettings: hot),
    .testTarget(name: "ProjectionDataTests", dependencies: ["ProjectionData", "Tomography", "DICOM", "TestSupport"], swiftSettings: strict),
    .testTarget(name: "LowDoseTests", dependencies: ["LowDose", "ProjectionData", "Tomography", "Archive", "DICOM", "Phantoms", "Imaging", "Geometry", "TestSupport"], swiftSettings: strict),
    .executableTarget(name: "ImportProbe", dependencies: ["Archive", "Imaging"], path: "Tests/ImportProbe", swiftSettings: strict),
    .testTarget(name: "ArchiveTests", dependencies: ["ImportProbe", "Archive", "DICOM", "Imaging", "Geometry", "Caching", "Phantoms", "TestSupport"], swiftSettings: hot),
    .testTarget(name: "DICOMwebTests", dependencies: ["DICOMweb", "Archive", "DICOM", "Rendering", "Compute", "ComputeCPU", "FrameCoding", "Imaging", "Geometry", "Phantoms", "TestSupport"], swiftSettings: strict),
    .testTarget(name: "StreamingTests", dependencies: ["Streaming", "Rendering", "FrameCoding", "Imaging", "Geometry", "TestSupport"], swiftSettings: hot),
]

if !coreOnly {
    products += [.executable(name: "tomos", targets: ["tomos"])]
    dependencies += [
        .package(url: "https://github.com/hummingbird-project/hummingbird", from: "2.28.1"),
        .package(url: "https://github.com/apple/swift-nio", from: "2.101.2"),
        .package(url: "https://github.com/apple/swift-nio-ssl", from: "2.37.6"),
        .package(url: "https://github.com/apple/swift-nio-http2", from: "1.46.0"),
        .package(url: "https://github.com/apple/swift-nio-extras", from: "1.35.2"),
        .package(url: "https://github.com/apple/swift-http-types", from: "1.8.0"),
        .package(url: "https://github.com/apple/swift-metrics", from: "2.13.0"),
        .package(url: "https://github.com/swift-server/swift-service-lifecycle", from: "2.13.0"),
        .package(url: "https://github.com/apple/swift-crypto", from: "4.5.2"),
        .package(url: "https://github.com/swift-server/async-http-client", from: "1.26.0"),
    ]
    targets += [
        .target(
            name: "Server",
            dependencies: [
                "LowDose", "ProjectionData", "Tomography", "Streaming", "DICOMweb", "Rendering", "Compute", "ComputeCPU", "Archive", "DICOM", "Phantoms", "FrameCoding", "Imaging", "Geometry", "Caching",
                product("Hummingbird", "hummingbird"), product("HummingbirdCore", "hummingbird"), product("HummingbirdHTTP2", "hummingbird"),
                product("NIOCore", "swift-nio"), product("NIOPosix", "swift-nio"), product("NIOHTTP1", "swift-nio"), product("NIOWebSocket", "swift-nio"),
                product("NIOTLS", "swift-nio"), product("NIOConcurrencyHelpers", "swift-nio"), product("NIOFoundationCompat", "swift-nio"),
                product("NIOSSL", "swift-nio-ssl"), product("NIOHTTP2", "swift-nio-http2"),
                product("NIOHTTPTypes", "swift-nio-extras"), product("NIOHTTPTypesHTTP1", "swift-nio-extras"), product("HTTPTypes", "swift-http-types"),
                product("Logging", "swift-log"), product("Metrics", "swift-metrics"), product("CoreMetrics", "swift-metrics"),
                product("ServiceLifecycle", "swift-service-lifecycle"), product("UnixSignals", "swift-service-lifecycle"),
                product("Crypto", "swift-crypto"), product("AsyncHTTPClient", "async-http-client"),
            ],
            resources: [.embedInCode("Client")],
            swiftSettings: strict),
        .executableTarget(
            name: "tomos",
            dependencies: [
                "Server", "LowDose", "ProjectionData", "Tomography", "Streaming", "Rendering", "Compute", "ComputeCPU", "ComputeVulkan", "Archive", "DICOM", "Phantoms", "FrameCoding", "Imaging", "Geometry", "Caching",
                product("ArgumentParser", "swift-argument-parser"), product("Logging", "swift-log"),
            ],
            swiftSettings: strict),
        .testTarget(name: "CommandLineTests", dependencies: ["tomos", "FrameCoding", "Imaging", "TestSupport"], swiftSettings: strict),
        .testTarget(name: "ServerTests", dependencies: ["Server", "tomos", "TestSupport", product("HummingbirdTesting", "hummingbird")],
                    exclude: ["Browser", "Python"], swiftSettings: strict),
    ]
}

let package = Package(
    name: "tomos",
    products: products,
    dependencies: dependencies,
    targets: targets,
    swiftLanguageModes: [.v6],
    cLanguageStandard: .gnu11,
    cxxLanguageStandard: .cxx17
)
