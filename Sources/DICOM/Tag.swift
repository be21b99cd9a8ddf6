/// Group and element of an attribute.
public struct Tag: Hashable, Comparable, Sendable, CustomStringConvertible {
    public let group: UInt16
    public let element: UInt16

    public init(_ group: UInt16, _ element: UInt16) {
        self.group = group
        self.element = element
    }

    init(_ code: UInt32) { self.init(UInt16(code >> 16), UInt16(code & 0xFFFF)) }

    /// group × 65536 + element
    var code: UInt32 { UInt32(group) << 16 | UInt32(element) }

    public static func < (a: Tag, b: Tag) -> Bool { a.code < b.code }

    /// "(0020,0032)"
    public var description: String { "(\(hex(group)),\(hex(element)))" }

    /// "00200032", the key of DICOM JSON (PS3.18 F.2).
    public var jsonKey: String { hex(group) + hex(element) }

    public var isPrivate: Bool { group % 2 == 1 }
}

private func hex(_ word: UInt16) -> String {
    let digits = String(word, radix: 16, uppercase: true)
    return String(repeating: "0", count: 4 - digits.count) + digits
}
