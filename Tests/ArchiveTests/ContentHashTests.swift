@testable import Archive
import Testing

@Suite struct ContentHashTests {
    /// Values of the algorithm's published reference, seed 0.
    @Test(arguments: [("", 0xEF46_DB37_51D8_E999), ("a", 0xD24E_C4F1_A98C_6E5B), ("abc", 0x44BC_2CF5_AD77_0999),
                      ("Nobody inspects the spammish repetition", 0xFBCE_A83C_8A37_8BF1)] as [(String, UInt64)])
    func agreesWithTheReference(_ text: String, _ expected: UInt64) { #expect(ContentHash.of(text) == expected) }

    @Test func piecesHashLikeTheWhole() {
        let bytes = (0..<1000).map { UInt8(truncatingIfNeeded: $0 * 7) }
        let whole = bytes.withUnsafeBytes { ContentHash.of($0) }
        for size in [1, 3, 31, 32, 33, 100] {
            var hash = ContentHash()
            var start = 0
            while start < bytes.count {
                let end = min(start + size, bytes.count)
                bytes.withUnsafeBytes { hash.update(UnsafeRawBufferPointer(rebasing: $0[start..<end])) }
                start = end
            }
            #expect(hash.value == whole)
        }
    }
}
