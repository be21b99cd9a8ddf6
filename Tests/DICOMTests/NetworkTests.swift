import DICOM
import Foundation
import TestSupport
import Testing

/// Our provider and our user, over a socket of this machine.
@Suite(.serialized) struct NetworkTests {
    private func peer(find: @escaping @Sendable (String) -> [[DICOM.Tag: String]]?, _ body: (NetworkPeer) throws -> Void) throws {
        let folder = try TestData.temporaryFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        let port = try #require(freePort())
        let provider = try NetworkProvider(NetworkProvider.Settings(port: port, spool: folder.path), NetworkProvider.Answers(
            stored: { _ in 0 }, find: find, locate: { _ in nil }, decoded: { _ in nil }))
        defer { provider.stop() }
        let peer = NetworkPeer(title: "TOMOS", host: "127.0.0.1", port: port, ownTitle: "ASKER", timeout: 20)
        // The listener needs a moment.
        var isThere = false
        for _ in 0..<100 where !isThere { isThere = (try? peer.echo()) != nil; if !isThere { usleep(50_000) } }
        try #require(isThere)
        try body(peer)
    }

    private let question: [DICOM.Tag: String] = [Tag(0x0008, 0x0052): "STUDY", .patientID: "", .studyInstanceUID: ""]

    @Test func aRefusedSearchIsNoEmptyAnswer() throws {
        try peer(find: { _ in nil }) { peer in
            #expect { try peer.find(question) } throws: { ($0 as? DICOMError)?.code == "refused" }
        }
    }

    @Test func aSearchBringsWhatIsFoundAndNothingIsNothing() throws {
        try peer(find: { $0.contains("nobody") ? [] : [[.patientID: "A=B"], [.patientID: "C\nD"]] }) { peer in
            let text = try peer.find(question)
            let list = try #require(try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [[String: Any]])
            #expect(list.compactMap { (($0["00100020"] as? [String: Any])?["Value"] as? [String])?.first } == ["A=B", "CD"])
            var other = question
            other[.patientID] = "nobody"
            #expect(try peer.find(other) == "[]")
        }
    }
}
