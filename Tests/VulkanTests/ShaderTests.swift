import Foundation
import Shaders
import TestSupport
import Testing

@Suite struct ShaderTests {
    /// What is built in was made of the sources that are there: of all of them, and of what they include.
    @Test func compiledShadersBelongToTheirSources() throws {
        let sources = try FileManager.default.contentsOfDirectory(atPath: TestData.packageRoot.appending(path: "Shaders").path).filter { $0.hasSuffix(".comp") }
        #expect(sources.count > 10 && Set(sources.map { String($0.dropLast(5)) }).isSubset(of: Shaders.names))
        let output = FileManager.default.temporaryDirectory.appending(path: "shaders-\(UUID().uuidString).swift")
        defer { try? FileManager.default.removeItem(at: output) }
        let process = try Process.run(URL(filePath: "/bin/sh"), arguments: [TestData.packageRoot.appending(path: "scripts/compile-shaders.sh").path, output.path])
        process.waitUntilExit()
        #expect(process.terminationStatus == 0)
        let fresh = try String(contentsOf: output, encoding: .utf8)
        for name in Shaders.names {
            let words = try #require(Shaders.words(name))
            #expect(words.first == 0x0723_0203, "\(name) does not begin as SPIR-V does")
            #expect(fresh.contains("\"\(name)\": \"\(words.withUnsafeBytes { Data($0) }.base64EncodedString())\","), "\(name) is of other sources")
        }
        #expect(fresh.split(separator: "\n").count == Shaders.names.count + 3)
    }
}
