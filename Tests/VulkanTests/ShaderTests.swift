import CVulkan
import Foundation
import TestSupport
import Testing

@Suite struct ShaderTests {
    private static let folder = TestData.packageRoot.appending(path: "Shaders")

    /// What is committed as SPIR-V was made of the sources that are there. If not: scripts/compile-shaders.sh.
    @Test func compiledShadersBelongToTheirSources() throws {
        let shaders = try FileManager.default.contentsOfDirectory(atPath: Self.folder.path()).filter { $0.hasSuffix(".comp") }.sorted()
        var bytes: [UInt8] = []
        for name in shaders + ["include/arithmetic.h", "include/parameters.h"] { bytes += try Data(contentsOf: Self.folder.appending(path: name)) }
        #expect(sha256(bytes) == String(cString: gpuShaderSources()))
        for name in shaders { #expect(gpuShader(String(name.dropLast(5))).words != nil, "\(name) is not compiled in") }
    }

    /// With the compiler they were made with, the same words come out.
    @Test(.enabled(if: Self.compiler != nil)) func compilingAgainGivesTheSameWords() throws {
        let committed = try String(contentsOf: Self.folder.appending(path: "spirv/shaders.inc"), encoding: .utf8)
        let output = FileManager.default.temporaryDirectory.appending(path: "shaders-\(ProcessInfo.processInfo.processIdentifier).inc")
        defer { try? FileManager.default.removeItem(at: output) }
        let process = Process()
        process.executableURL = URL(filePath: "/bin/sh")
        process.arguments = [TestData.packageRoot.appending(path: "scripts/compile-shaders.sh").path(), output.path()]
        try process.run()
        process.waitUntilExit()
        #expect(process.terminationStatus == 0)
        let fresh = try String(contentsOf: output, encoding: .utf8)
        // Another compiler's words differ rightly; its first line says so.
        if fresh.prefix(while: { $0 != "\n" }) == committed.prefix(while: { $0 != "\n" }) { #expect(fresh == committed) }
        else { #expect(fresh.suffix(80) == committed.suffix(80)) }
    }

    private static let compiler: String? = ["/usr/bin/glslc", "/usr/local/bin/glslc"].first { FileManager.default.isExecutableFile(atPath: $0) }
}
