import CDICOM

/// An overlay plane (PS3.3 C.9.2), unpacked. Overlays may hold identity text: show them only where that is allowed.
public struct Overlay: Hashable, Sendable {
    /// Repeating group: 0x6000, 0x6002, … 0x601E.
    public let group: UInt16
    public let rows: Int
    public let columns: Int
    /// Row and column, from 1, of the image pixel under the first overlay pixel; may be less than 1.
    public let origin: (row: Int, column: Int)
    public let frames: Int
    /// First image frame, from 1, that the overlay belongs to.
    public let firstFrame: Int
    /// Graphics or region of interest.
    public let isRegionOfInterest: Bool
    public let label: String?
    /// 0 or 1 for each pixel, frame after frame, row by row.
    public let mask: [UInt8]

    public static func == (a: Overlay, b: Overlay) -> Bool {
        a.group == b.group && a.rows == b.rows && a.columns == b.columns && a.origin == b.origin && a.frames == b.frames
            && a.firstFrame == b.firstFrame && a.isRegionOfInterest == b.isRegionOfInterest && a.label == b.label && a.mask == b.mask
    }

    public func hash(into hasher: inout Hasher) {
        hasher.combine(group)
        hasher.combine(mask)
    }
}

extension DataSet {
    /// The overlay planes: those with data of their own, and the retired form in unused bits of the pixel data (PS3.5 8.1.2), for
    /// which the frames are decoded.
    public func overlays() throws(DICOMError) -> [Overlay] {
        var overlays: [Overlay] = []
        for group in stride(from: UInt16(0x6000), through: 0x601E, by: 2) {
            let data = Tag(group, 0x3000)
            guard contains(Tag(group, 0x0010)) || contains(data) else { continue }
            guard let rows = int(Tag(group, 0x0010)), let columns = int(Tag(group, 0x0011)), (1...65535).contains(rows), (1...65535).contains(columns) else {
                throw DICOMError(code: "missing-attribute", message: "Overlay \(data) has no rows or columns.")
            }
            let frames: Int, mask: [UInt8]
            if let bytes = bytes(data) {
                frames = int(Tag(group, 0x0015)) ?? 1
                guard frames > 0, frames <= bytes.count * 8 / (rows * columns) else {
                    throw DICOMError(code: "bad-attribute", message: "Overlay data \(data) has \(bytes.count) bytes, too few for \(frames) frames of \(columns) × \(rows) bits.")
                }
                // Bits count from the lowest of each byte; big endian OW holds them in swapped bytes (PS3.5 8.2).
                let isSwapped = element(data).map { $0.is_big_endian && valueRepresentation(data) == "OW" } ?? false
                mask = (0..<rows * columns * frames).map { bytes[isSwapped && ($0 / 8) ^ 1 < bytes.count ? ($0 / 8) ^ 1 : $0 / 8] >> UInt8($0 % 8) & 1 }
            } else if let bit = int(Tag(group, 0x0102)), bit > 0 {
                let image = try imageDescription()
                guard rows == image.rows, columns == image.columns else {
                    throw DICOMError(code: "bad-attribute", message: "Overlay \(Tag(group, 0x0102)) lies in the pixel data, but has \(columns) × \(rows) pixels and the image \(image.columns) × \(image.rows).")
                }
                frames = image.frames
                mask = try embeddedMask(bit: bit, image)
            } else {
                continue
            }
            let origin = ints(Tag(group, 0x0050))
            overlays.append(Overlay(
                group: group, rows: rows, columns: columns, origin: origin.count >= 2 ? (origin[0], origin[1]) : (1, 1), frames: frames,
                firstFrame: int(Tag(group, 0x0051)) ?? 1, isRegionOfInterest: string(Tag(group, 0x0040)) == "R", label: string(Tag(group, 0x1500)), mask: mask))
        }
        return overlays
    }

    private func embeddedMask(bit: Int, _ image: ImageDescription) throws(DICOMError) -> [UInt8] {
        let count = image.rows * image.columns
        var mask: [UInt8] = []
        for frame in 0..<image.frames {
            var error = cdicom_error()
            let one = [UInt8](unsafeUninitializedCapacity: count) { buffer, initialized in
                initialized = cdicom_overlay_bit(handle, UInt32(frame), UInt32(clamping: bit), buffer.baseAddress!, count, &error) ? count : 0
            }
            guard one.count == count else { throw DICOMError(error) }
            mask += one
        }
        return mask
    }
}
