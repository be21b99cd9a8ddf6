/// XXH64 (Yann Collet's specification): finds accidental damage to files and cached voxels at memory speed. It is no
/// protection against somebody who forges content.
struct ContentHash {
    private static let p1: UInt64 = 0x9E37_79B1_85EB_CA87, p2: UInt64 = 0xC2B2_AE3D_27D4_EB4F, p3: UInt64 = 0x1656_67B1_9E37_79F9
    private static let p4: UInt64 = 0x85EB_CA77_C2B2_AE63, p5: UInt64 = 0x27D4_EB2F_1656_67C5

    private var lanes = SIMD4<UInt64>(p1 &+ p2, p2, 0, 0 &- p1)
    private var total: UInt64 = 0
    private var tail: [UInt8] = []

    init() { tail.reserveCapacity(32) }

    static func of(_ bytes: UnsafeRawBufferPointer) -> UInt64 {
        var hash = ContentHash()
        hash.update(bytes)
        return hash.value
    }
    static func of(_ text: String) -> UInt64 {
        var text = text
        return text.withUTF8 { of(UnsafeRawBufferPointer($0)) }
    }

    mutating func update(_ bytes: UnsafeRawBufferPointer) {
        total &+= UInt64(bytes.count)
        var rest = bytes[...]
        if !tail.isEmpty {
            let taken = min(32 - tail.count, rest.count)
            tail.append(contentsOf: rest.prefix(taken))
            rest = rest.dropFirst(taken)
            guard tail.count == 32 else { return }
            tail.withUnsafeBytes { lanes = Self.stripes($0.baseAddress!, 1, lanes) }
            tail.removeAll(keepingCapacity: true)
        }
        let whole = rest.count / 32
        if whole > 0 {
            lanes = Self.stripes(bytes.baseAddress! + rest.startIndex, whole, lanes)
            rest = rest.dropFirst(whole * 32)
        }
        tail.append(contentsOf: rest)
    }

    var value: UInt64 {
        var h: UInt64
        if total >= 32 {
            h = Self.rotate(lanes[0], 1) &+ Self.rotate(lanes[1], 7) &+ Self.rotate(lanes[2], 12) &+ Self.rotate(lanes[3], 18)
            for i in 0..<4 { h = (h ^ Self.round(0, lanes[i])) &* Self.p1 &+ Self.p4 }
        } else {
            h = Self.p5
        }
        h &+= total
        tail.withUnsafeBytes { bytes in
            var i = 0
            while i + 8 <= bytes.count {
                h = Self.rotate(h ^ Self.round(0, bytes.loadUnaligned(fromByteOffset: i, as: UInt64.self)), 27) &* Self.p1 &+ Self.p4
                i += 8
            }
            if i + 4 <= bytes.count {
                h = Self.rotate(h ^ UInt64(bytes.loadUnaligned(fromByteOffset: i, as: UInt32.self)) &* Self.p1, 23) &* Self.p2 &+ Self.p3
                i += 4
            }
            while i < bytes.count {
                h = Self.rotate(h ^ UInt64(bytes[i]) &* Self.p5, 11) &* Self.p1
                i += 1
            }
        }
        h = (h ^ (h >> 33)) &* Self.p2
        h = (h ^ (h >> 29)) &* Self.p3
        return h ^ (h >> 32)
    }

    private static func rotate(_ x: UInt64, _ n: UInt64) -> UInt64 { x << n | x >> (64 - n) }
    private static func round(_ lane: UInt64, _ input: UInt64) -> UInt64 { rotate(lane &+ input &* p2, 31) &* p1 }

    private static func stripes(_ p: UnsafeRawPointer, _ count: Int, _ start: SIMD4<UInt64>) -> SIMD4<UInt64> {
        var a = start[0], b = start[1], c = start[2], d = start[3]
        for i in 0..<count {
            let q = p + 32 * i
            a = round(a, q.loadUnaligned(as: UInt64.self))
            b = round(b, q.loadUnaligned(fromByteOffset: 8, as: UInt64.self))
            c = round(c, q.loadUnaligned(fromByteOffset: 16, as: UInt64.self))
            d = round(d, q.loadUnaligned(fromByteOffset: 24, as: UInt64.self))
        }
        return SIMD4(a, b, c, d)
    }
}
