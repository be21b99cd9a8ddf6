import Foundation
import Tomography

/// A NumPy array file (format 1 to 3), as 32-bit floats in C order.
public struct NumPyArray: Sendable {
    public var shape: [Int]
    public var values: [Float]
    public init(shape: [Int], values: [Float]) { self.shape = shape; self.values = values }

    public init(path: String, limit: Int = .max) throws(ProjectionError) {
        guard let data = FileManager.default.contents(atPath: path) else { throw ProjectionError("not-found", "The .npy file cannot be read.") }
        try self.init([UInt8](data), limit: limit)
    }

    public init(_ bytes: [UInt8], limit: Int = .max) throws(ProjectionError) {
        func damaged(_ why: String) -> ProjectionError { ProjectionError("damaged", "The .npy file is damaged: \(why).") }
        guard bytes.count > 12, bytes[0] == 0x93, bytes[1..<6].elementsEqual("NUMPY".utf8) else { throw ProjectionError("damaged", "This is no .npy file.") }
        let isLong = bytes[6] > 1
        let start = isLong ? 12 : 10
        let length = isLong ? Int(bytes[8]) | Int(bytes[9]) << 8 | Int(bytes[10]) << 16 | Int(bytes[11]) << 24 : Int(bytes[8]) | Int(bytes[9]) << 8
        guard bytes.count >= start + length else { throw damaged("its header is cut off") }
        let header = String(decoding: bytes[start..<start + length], as: UTF8.self)
        func value(_ key: String) -> Substring? {
            guard let range = header.range(of: "'\(key)':") else { return nil }
            return header[range.upperBound...].drop { $0 == " " }
        }
        guard let type = value("descr")?.dropFirst().prefix(while: { $0 != "'" }), let order = value("fortran_order"), let sizes = value("shape") else { throw damaged("its header lacks descr, fortran_order or shape") }
        guard !order.hasPrefix("True") else { throw ProjectionError("unsupported", "Arrays in Fortran order are not read; save numpy.ascontiguousarray(a).") }
        var shape: [Int] = []
        for part in sizes.dropFirst().prefix(while: { $0 != ")" }).split(separator: ",") {
            guard let n = Int(part.trimmingCharacters(in: .whitespaces)), n > 0 else { throw damaged("its shape is no list of numbers above 0") }
            shape.append(n)
        }
        var count = 1
        for n in shape {
            let (product, overflow) = count.multipliedReportingOverflow(by: n)
            guard !overflow, product <= 1 << 40 else { throw damaged("its shape is impossible") }
            count = product
        }
        let width = type.last?.wholeNumberValue ?? 0, body = start + length
        guard !type.hasPrefix(">"), width > 0, bytes.count - body >= count * width else {
            throw type.hasPrefix(">") ? ProjectionError("unsupported", "Big-endian arrays are not read.") : damaged("it holds fewer values than its shape says")
        }
        guard count <= limit / 8 else { throw ProjectionError(.outOfMemory(needed: count * 8, available: limit)) }
        func read<T>(_ convert: (T) -> Float) -> [Float] {
            bytes.withUnsafeBytes { raw in (0..<count).map { convert(raw.loadUnaligned(fromByteOffset: body + $0 * MemoryLayout<T>.size, as: T.self)) } }
        }
        switch type.dropFirst() {
        case "f4": values = read { (v: Float) in v }
        case "f8": values = read { (v: Double) in Float(v) }
        case "u1": values = read { (v: UInt8) in Float(v) }
        case "u2": values = read { (v: UInt16) in Float(v) }
        case "i2": values = read { (v: Int16) in Float(v) }
        case "i4": values = read { (v: Int32) in Float(v) }
        case "u4": values = read { (v: UInt32) in Float(v) }
        default: throw ProjectionError("unsupported", "Arrays of type \(type) are not read; save float32.")
        }
        self.shape = shape
    }

    /// The array as a file: float32, C order.
    public var file: [UInt8] {
        var header = "{'descr': '<f4', 'fortran_order': False, 'shape': (\(shape.map { "\($0)," }.joined(separator: " "))), }"
        header += String(repeating: " ", count: 63 - (10 + header.utf8.count) % 64) + "\n"
        var file: [UInt8] = [0x93] + Array("NUMPY".utf8) + [1, 0, UInt8(truncatingIfNeeded: header.utf8.count), UInt8(truncatingIfNeeded: header.utf8.count >> 8)]
        file += Array(header.utf8)
        values.withUnsafeBytes { file.append(contentsOf: $0) }
        return file
    }
}
