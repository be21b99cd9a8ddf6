import Rendering

/// Which of the three pictures of a revision a part belongs to.
public enum Pass: UInt8, Comparable, Sendable, CaseIterable {
    /// While the hand moves: as large and as good as the line allows.
    case moving = 0
    /// Every pixel, lossy.
    case full = 1
    /// Bit-identical to the offline render, in bands.
    case exact = 2
    public static func < (a: Self, b: Self) -> Bool { a.rawValue < b.rawValue }
}

/// The 32 bytes before every image; little-endian (StreamProtocol.md, "Frame part").
public struct FrameHeader: Hashable, Sendable {
    public static let length = 32

    public var pane: UInt16 = 0
    /// Counts parts on this connection, from 1.
    public var frame: UInt32 = 0
    public var revision: UInt32 = 0
    public var pass: Pass = .moving
    /// 0 unchanged, else `FrameFormat.rawValue`.
    public var format: UInt8 = 0
    public var fidelity: Fidelity = []
    public var isLast = true
    /// Rectangle filled, in pane pixels.
    public var x: UInt16 = 0, y: UInt16 = 0, width: UInt16 = 0, height: UInt16 = 0
    /// Seconds; carried in steps of 0.1 ms, saturating.
    public var waiting = 0.0, rendering = 0.0, encoding = 0.0
    public var cineIndex: UInt16 = 0

    public init() {}

    public func serialized() -> [UInt8] {
        var out: [UInt8] = []
        out.reserveCapacity(Self.length)
        func put(_ v: UInt16) { out.append(UInt8(truncatingIfNeeded: v)); out.append(UInt8(truncatingIfNeeded: v >> 8)) }
        func put(_ v: UInt32) { put(UInt16(truncatingIfNeeded: v)); put(UInt16(truncatingIfNeeded: v >> 16)) }
        func put(seconds: Double) { put(seconds > 0 ? UInt16(min(seconds * 10_000, 65_535).rounded()) : 0) }
        out.append(1)
        out.append(UInt8(Self.length))
        put(pane)
        put(frame)
        put(revision)
        out.append(pass.rawValue)
        out.append(format)
        out.append(fidelity.rawValue)
        out.append(isLast ? 1 : 0)
        put(x); put(y); put(width); put(height)
        put(seconds: waiting); put(seconds: rendering); put(seconds: encoding)
        put(cineIndex)
        return out
    }

    /// Reads what `serialized` writes, from headers of any greater length too; `nil` for anything else.
    public init?(_ bytes: some RandomAccessCollection<UInt8>) {
        let b = Array(bytes.prefix(Self.length))
        guard b.count == Self.length, b[0] == 1, b[1] >= Self.length, let pass = Pass(rawValue: b[12]) else { return nil }
        func u16(_ i: Int) -> UInt16 { UInt16(b[i]) | UInt16(b[i + 1]) << 8 }
        func u32(_ i: Int) -> UInt32 { UInt32(u16(i)) | UInt32(u16(i + 2)) << 16 }
        pane = u16(2); frame = u32(4); revision = u32(8)
        self.pass = pass; format = b[13]; fidelity = Fidelity(rawValue: b[14]); isLast = b[15] & 1 == 1
        x = u16(16); y = u16(18); width = u16(20); height = u16(22)
        waiting = Double(u16(24)) / 10_000; rendering = Double(u16(26)) / 10_000; encoding = Double(u16(28)) / 10_000
        cineIndex = u16(30)
    }
}
