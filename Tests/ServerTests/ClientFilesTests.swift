import Foundation
@testable import Server
import TestSupport
import Testing

@Suite struct ClientFilesTests {
    @Test func everyFileOfTheClientFolderIsServedAsItIs() throws {
        let folder = TestData.packageRoot.appending(path: "Sources/Server/Client")
        let names = try FileManager.default.contentsOfDirectory(atPath: folder.path).filter { !$0.hasPrefix(".") }
        #expect(names.count > 5)
        let embedded = Dictionary(uniqueKeysWithValues: ClientFiles.embedded.map { ($0.path, $0.bytes) })
        #expect(Set(names) == Set(embedded.keys))
        for name in names { #expect(try Data(contentsOf: folder.appending(path: name)) == Data(embedded[name] ?? []), "\(name)") }
    }
}
